// SPDX-License-Identifier: MIT OR Apache-2.0
// Calls of several targets, a map, sorting, strings; the compiler that `java Work.java` runs first is most of it.
import java.util.*;

public class Work {
    interface Step {
        int of(int x);
    }

    public static void main(String[] words) {
        Step[] steps = {x -> x * 31 + 7, x -> x ^ (x >>> 3), x -> Integer.rotateLeft(x, 5), x -> x + 0x9e3779b9};
        int sum = 1;
        for (int i = 0; i < 600_000; i++) {
            sum = steps[i % steps.length].of(sum);
        }
        Map<String, Integer> map = new HashMap<>();
        for (int i = 0; i < 60_000; i++) {
            map.merge("k" + i % 997, i, Integer::sum);
        }
        List<String> keys = new ArrayList<>(map.keySet());
        Collections.sort(keys);
        StringBuilder all = new StringBuilder();
        keys.forEach(key -> all.append(key).append(map.get(key)));
        System.out.println(sum + " " + all.toString().hashCode());
    }
}
