# SPDX-License-Identifier: MIT OR Apache-2.0
# A hash, strings, a regular expression.
use strict;
my (%mapped, $text);
for my $i (0 .. 150_000) {
    $mapped{$i % 997} += $i;
    $text .= "x$i" if $i % 7 == 0;
}
my @numbers = $text =~ /x(\d+)/g;
print length($text), " ", scalar(@numbers), " ", scalar(keys %mapped), "\n";
