// SPDX-License-Identifier: Apache-2.0

import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.HashMap;
import sun.misc.Signal;

/**
 * The JVM's part of workload.py: a HashMap of records of 1 KiB, at random read and, half of the time, replaced by new
 * objects, so that the garbage collector has work. Same files, signals and outcome.
 *
 * <p>java Workload MIB FILE
 */
public final class Workload {
    private static final int WORDS = 128;
    private static final long SAMPLE_NS = 20_000_000;
    private static volatile boolean ended;

    private static long word(int key, int version, int at) {
        long x = (key * 0x9E3779B97F4A7C15L) ^ (version * 0xC2B2AE3D27D4EB4FL) + at;
        return x ^ (x >>> 29);
    }

    private static long[] record(int key, int version) {
        long[] held = new long[WORDS];
        for (int at = 0; at < WORDS; at++) {
            held[at] = word(key, version, at);
        }
        return held;
    }

    private static boolean right(long[] held, int key, int version) {
        boolean right = true;
        for (int at = 0; at < WORDS; at++) {
            right &= held[at] == word(key, version, at);
        }
        return right;
    }

    private static void replace(Path file, String content) throws Exception {
        Path fresh = Path.of(file + ".new");
        Files.writeString(fresh, content);
        Files.move(fresh, file, StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING);
    }

    public static void main(String[] args) throws Exception {
        int records = Integer.parseInt(args[0]) * (1 << 20) / (WORDS * Long.BYTES);
        Path result = Path.of(args[1]);
        Signal.handle(new Signal("TERM"), signal -> ended = true);
        HashMap<Integer, long[]> map = new HashMap<>(2 * records);
        int[] versions = new int[records];
        for (int key = 0; key < records; key++) {
            map.put(key, record(key, 0));
        }
        replace(result, "{\"state\": \"filled\"}");
        StringBuilder timeline = new StringBuilder();
        long operations = 0;
        long wrong = 0;
        long random = 88172645463325252L;
        long next = 0;
        while (!ended) {
            random ^= random << 13;
            random ^= random >>> 7;
            random ^= random << 17;
            int key = (int) ((random >>> 33) % records);
            if (!right(map.get(key), key, versions[key])) {
                wrong++;
            }
            if ((random & 1) == 0) {
                map.put(key, record(key, ++versions[key]));
            }
            operations++;
            long now = System.nanoTime();
            if (now >= next) {
                timeline.append(timeline.isEmpty() ? "" : ",");
                timeline.append('[').append(now / 1e9).append(',').append(operations).append(']');
                next = now + SAMPLE_NS;
            }
        }
        for (int key = 0; key < records; key++) {
            if (!right(map.get(key), key, versions[key])) {
                wrong++;
            }
        }
        replace(
                result,
                "{\"state\": \"checked\", \"operations\": " + operations + ", \"checked\": " + records + ", \"wrong\": "
                        + wrong + ", \"timeline\": [" + timeline + "]}");
        System.exit(wrong == 0 ? 0 : 1);
    }
}
