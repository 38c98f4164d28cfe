"""From bits of a mask to the places of their values: prefix sums of popcounts."""

# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"

import triton
import triton.language as tl


@triton.jit
def places_of(eight, at):
    """Where the values of a step lie, whose bits are `eight`, and whose first values are at `at`.

    eight:    bytes of the mask, int32 [rows, bytes]        at: [rows]
    returns:  (place of each bit's value [rows, bytes, 8], the bits, how many of them each row has)
    """
    bit = tl.arange(0, 8)
    # Bit j of a byte at bit 4j:   hgfe dcba   ▸   000h 000g 000f 000e 000d 000c 000b 000a
    fours = (eight | eight << 12) & 0x000F000F
    twos = (fours | fours << 6) & 0x03030303
    ones = (twos | twos << 3) & 0x11111111
    # Nibble j: how many of the bits 0 … j are set, all in one product. None exceeds 8, so none carries.
    through = ones * 0x11111111
    count = (through >> 28) & 15
    before = at[:, None] + tl.cumsum(count, 1) - count
    below = ((through << 4)[:, :, None] >> 4 * bit[None, None, :]) & 15
    kept = (eight[:, :, None] >> bit[None, None, :]) & 1
    return before[:, :, None] + below, kept != 0, tl.sum(count, 1)
