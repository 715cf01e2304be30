# SPDX-License-Identifier: MIT OR Apache-2.0
# Loads each library named on standard input, in a process of its own, and tells of each that cannot be loaded how the
# process ended, its name and why. The number of all comes last.
use POSIX ();
use DynaLoader;
$| = 1;
# What the loader itself is made of need not be translated in each process anew.
my $first = DynaLoader::dl_load_file('libgtk-3.so.0', 0);
DynaLoader::dl_unload_file($first) if $first;
my $count = 0;
while (my $file = <STDIN>) {
    chomp $file;
    my $child = open(my $from, '-|') // die "fork: $!";
    if ($child == 0) {
        open STDERR, '>&', \*STDOUT;
        alarm 120;
        POSIX::_exit(0) if DynaLoader::dl_load_file($file, 0);
        print DynaLoader::dl_error() =~ s/ at -e line .*//sr;
        POSIX::_exit(1);
    }
    my $reason = join ' ', <$from>;
    close $from;
    if ($? != 0) {
        my $status = $?;
        $reason =~ s/\s+/ /g;
        print "$status $file $reason\n";
    }
    $count++;
}
print "$count\n";
