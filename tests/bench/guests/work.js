// SPDX-License-Identifier: MIT OR Apache-2.0
// Calls of several targets, a map, sorting, strings.
const steps = [x => (x * 31 + 7) | 0, x => x ^ (x >>> 3), x => (x << 5) | (x >>> 27), x => (x + 0x9e3779b9) | 0];
let sum = 1;
for (let i = 0; i < 3_000_000; i++) sum = steps[i & 3](sum);
const map = new Map();
for (let i = 0; i < 60_000; i++) map.set("k" + (i % 997), (map.get("k" + (i % 997)) || 0) + i);
console.log(sum, [...map.keys()].sort().map(key => key + map.get(key)).join("").length, JSON.stringify([...map]).length);
