# SPDX-License-Identifier: MIT OR Apache-2.0
# A dictionary, hashing, strings.
import json

mapped, total = {}, 0
for i in range(150_000):
    mapped[i % 997] = mapped.get(i % 997, 0) + i * 7
    total ^= hash(str(i))
print(len(json.dumps(mapped)), total != 0)
