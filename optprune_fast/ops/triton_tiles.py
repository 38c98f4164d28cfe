"""What the masked Triton kernels share. Importing this file imports Triton, so implementations do it on first need."""

import triton
import triton.language as tl

# Columns of one step: a half-word, so that a row's bits of a step fit one 32-bit register. Two of them, a whole word,
# double the live addresses of ragged rows: those spill then (tests/gpu/test_triton_aot.py shows by how much).
TILE_I = tl.constexpr(32)


@triton.jit  # type: ignore[untyped-decorator]
def place(row, program, tiles, outputs, candidates, STACKED: tl.constexpr):  # type: ignore[no-untyped-def]
    """(candidate, output, whether there is one) of the rows of a product.

    STACKED:  rows of all candidates follow one another, so a tile may hold the last of one and the first of the next;
              otherwise a program has one candidate
    """
    if STACKED:
        p, o, is_row = row // outputs, row % outputs, row < candidates * outputs
    else:
        p, o, is_row = program // tiles, row, row < outputs
    return p, o, is_row


@triton.jit  # type: ignore[untyped-decorator]
def kept_weights(weight_rows, words_rows, column, is_row, inputs, DOT: tl.constexpr):  # type: ignore[no-untyped-def]
    """[rows, TILE_I]: the weights of a step from `column` on, dropped ones zero, in the type that is multiplied."""
    i = tl.arange(0, TILE_I)
    tile = tl.load(weight_rows[:, None] + (column + i)[None, :],
                   mask=is_row[:, None] & (column + i < inputs)[None, :], other=0.0)
    # word   63 … 32 | 31 … 0     the half that holds the columns of this step
    half = (tl.load(words_rows + column // 64, mask=is_row, other=0) >> column % 64).to(tl.int32)
    return tl.where(((half[:, None] >> i[None, :]) & 1) != 0, tile, 0.0).to(DOT)


@triton.jit  # type: ignore[untyped-decorator]
def finished(sums, bias, output, is_row, low, high, BIAS: tl.constexpr,  # type: ignore[no-untyped-def]
             ACTIVATION: tl.constexpr):
    """[rows, …]: sums with their row's bias, activated."""
    if BIAS:
        sums += tl.load(bias + output, mask=is_row, other=0.0).to(tl.float32)[:, None]
    return activated(sums, low, high, ACTIVATION)


@triton.jit  # type: ignore[untyped-decorator]
def loss_of(sums, output, is_row, wanted, LOSS: tl.constexpr):  # type: ignore[no-untyped-def]
    """[samples]: the loss of logits [rows, samples] with targets `wanted`: "cross_entropy", or "error": 1 where another
    class than wanted has the largest logit, else 0."""
    logits = tl.where(is_row[:, None], sums, float("-inf"))
    if LOSS == "cross_entropy":
        largest = tl.max(logits, 0)
        rest = tl.log(tl.sum(tl.exp(logits - largest[None, :]), 0))
        loss = largest - tl.sum(tl.where(output[:, None] == wanted[None, :], logits, 0.0), 0) + rest
    else:
        loss = (tl.argmax(logits, 0) != wanted).to(tl.float32)
    return loss


@triton.jit  # type: ignore[untyped-decorator]
def activated(x, low, high, KIND: tl.constexpr):  # type: ignore[no-untyped-def]
    """One of the engine's activations (`plan/reference.py`); low, high: its parameters. NaN stays NaN."""
    if KIND == "relu":
        x = tl.where(x < 0, 0.0, x)
    elif KIND == "hardtanh":
        x = clamped(x, low, high)
    elif KIND == "relu6":
        x = clamped(x, 0.0, 6.0)
    elif KIND == "leaky_relu":
        x = tl.where(x < 0, x * low, x)
    elif KIND == "elu":
        x = tl.where(x < 0, low * (tl.exp(clamped(x, float("-inf"), 0.0)) - 1), x)
    elif KIND == "gelu":
        x = 0.5 * x * (1 + tl.erf(x * 0.7071067811865476))
    elif KIND == "gelu_tanh":
        x = x * squashed(1.5957691216057308 * (x + 0.044715 * x * x * x))
    elif KIND == "silu":
        x = x * squashed(x)
    elif KIND == "sigmoid":
        x = squashed(x)
    elif KIND == "tanh":
        x = 2 * squashed(2 * x) - 1
    elif KIND == "hardswish":
        x = x * clamped(x + 3, 0.0, 6.0) / 6
    elif KIND == "hardsigmoid":
        x = clamped(x + 3, 0.0, 6.0) / 6
    else:
        tl.static_assert(KIND == "none")
    return x


@triton.jit
def squashed(x):  # type: ignore[no-untyped-def]
    """1 / (1 + exp(-x)), without an exponential that overflows."""
    small = tl.exp(-tl.abs(x))
    return tl.where(x < 0, small, 1.0) / (1.0 + small)


@triton.jit
def clamped(x, low, high):  # type: ignore[no-untyped-def]
    return tl.where(x < low, low, tl.where(x > high, high, x))
