// __MODEL__: made by Thalweg. Kotlin uses it as it is.
package thalweg;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;

/** A model with a state of its own. Not to be shared by threads without a lock: make one each. */
public final class __CLASS__ {
    static { __LOADING__ }

    private static final String[] STATUS = {"ok", "a null pointer", "an arena that is too short",
        "the weights of another model", "misaligned memory", "a negative number of rows"};
    private static final int STATE_BYTES = __STATE_BYTES__;
    private final ByteBuffer state = allocate(STATE_BYTES);
    private final ByteBuffer arena = allocate(__ARENA__);
    private byte[] header; // of weights files

    /** The model with the weights of a file that was exported with it. */
    public __CLASS__(byte[] weights) {
        restore(weights);
    }

    /** Take the state from a weights file. */
    public void restore(byte[] weights) {
        ByteBuffer file = ByteBuffer.wrap(weights).order(ByteOrder.LITTLE_ENDIAN);
        byte[] hash = "__HASH__".getBytes(java.nio.charset.StandardCharsets.US_ASCII);
        boolean fits = weights.length >= __HASH_AT__ + hash.length && weights.length == 8 + file.getLong(0) + STATE_BYTES;
        for (int i = 0; fits && i < hash.length; i++) fits = weights[__HASH_AT__ + i] == hash[i];
        if (!fits) throw new IllegalArgumentException("not the weights of this model, or truncated");
        state.clear();
        state.put(weights, weights.length - STATE_BYTES, STATE_BYTES);
        header = java.util.Arrays.copyOf(weights, weights.length - STATE_BYTES);
    }

    /** A weights file with the state as it is: all variables. */
    public byte[] save() {
        byte[] out = java.util.Arrays.copyOf(header, header.length + STATE_BYTES);
        state.clear();
        state.get(out, header.length, STATE_BYTES);
        return out;
    }
__METHODS__
    private static ByteBuffer allocate(int bytes) {
        ByteBuffer whole = ByteBuffer.allocateDirect(bytes + 128);
        whole.position((int) (-address(whole) & 63));
        return whole.slice().order(ByteOrder.nativeOrder());
    }

    private static int rows(String name, int length, int row) {
        if (length % row != 0) throw new IllegalArgumentException(name + " has " + length + " elements, no multiple of " + row);
        return length / row;
    }

    private static void expect(String name, int length, int wanted) {
        if (length != wanted) throw new IllegalArgumentException(name + " must have " + wanted + " elements, has " + length);
    }

    private static void check(String name, int status) {
        if (status != 0) {
            throw new IllegalStateException(name + ": " + (status < STATUS.length ? STATUS[status] : "status " + status));
        }
    }

    private static native long address(ByteBuffer buffer);
__NATIVES__}
