// Steps that combine numbers of one sample: pooling, means, softmax, normalisation, products of two activations.
#ifndef OPTPRUNE_KERNELS_POPULATION_REDUCE_H
#define OPTPRUNE_KERNELS_POPULATION_REDUCE_H

#include "kernels/population/elementwise.h"

namespace optprune::population {
namespace {

// numbers: kernel y x, stride y x, padding y x, 1 if padding counts in the average
inline void pool(const Tile &tile, const Step &step) {
    const std::int64_t *n = step.numbers, H = step.a.shape[1], W = step.a.shape[2];
    const bool max = step.op == Op::max_pool;
    const float *a = at(tile, step.a);
    float *out = at(tile, step.out);
    const Tensor &o = step.out;
    for (std::int64_t y = 0; y < o.shape[1]; ++y) {
        const std::int64_t y0 = y * n[2] - n[4], top = y0 < 0 ? 0 : y0, bottom = y0 + n[0] < H ? y0 + n[0] : H;
        for (std::int64_t x = 0; x < o.shape[2]; ++x) {
            const std::int64_t x0 = x * n[3] - n[5], left = x0 < 0 ? 0 : x0, right = x0 + n[1] < W ? x0 + n[1] : W;
            // The part of the padding that torch counts: what lies inside the padded picture.
            const std::int64_t padded_h = (y0 + n[0] < H + n[4] ? y0 + n[0] : H + n[4]) - y0;
            const std::int64_t padded_w = (x0 + n[1] < W + n[5] ? x0 + n[1] : W + n[5]) - x0;
            const std::int64_t count = n[6] != 0 ? padded_h * padded_w : (bottom - top) * (right - left);
            for (std::int64_t c = 0; c < o.shape[0]; ++c) {
                const float *plane = a + c * step.a.stride[0] * L;
                Vec sum = max ? Vec::spread(-__builtin_inff()) : Vec::zero();
                for (std::int64_t i = top; i < bottom; ++i) {
                    for (std::int64_t j = left; j < right; ++j) {
                        const Vec v = Vec::load(plane + (i * step.a.stride[1] + j * step.a.stride[2]) * L);
                        sum = max ? Vec::max(sum, v) : Vec::add(sum, v);
                    }
                }
                if (!max) sum = Vec::div(sum, Vec::spread(static_cast<float>(count)));
                activate(sum, step.activation, step.parameters)
                    .store(out + (c * o.stride[0] + y * o.stride[1] + x * o.stride[2]) * L);
            }
        }
    }
}

// The leading dimensions of `a`, as if the last `dims` were not there.
inline Tensor leading(const Tensor &a, std::int64_t dims) {
    Tensor out = a;
    out.rank -= dims;
    return out;
}

inline Tensor trailing(const Tensor &a, std::int64_t dims) {
    Tensor out = a;
    out.rank = dims;
    for (std::int64_t d = 0; d < dims; ++d) {
        out.shape[d] = a.shape[a.rank - dims + d];
        out.stride[d] = a.stride[a.rank - dims + d];
    }
    return out;
}

inline std::int64_t elements(const Tensor &a) {
    std::int64_t n = 1;
    for (std::int64_t d = 0; d < a.rank; ++d) n *= a.shape[d];
    return n;
}

// numbers: dims
inline void mean(const Tile &tile, const Step &step) {
    const float *a = at(tile, step.a);
    float *out = at(tile, step.out);
    const Tensor inner = trailing(step.a, step.numbers[0]), outer = leading(step.a, step.numbers[0]);
    const Vec count = Vec::spread(static_cast<float>(elements(inner)));
    each(outer, step.out, outer, outer.rank, [&](std::int64_t i, std::int64_t o, std::int64_t) {
        Vec sum = Vec::zero();
        each(inner, inner, inner, inner.rank,
             [&](std::int64_t k, std::int64_t, std::int64_t) { sum = Vec::add(sum, Vec::load(a + (i + k) * L)); });
        activate(Vec::div(sum, count), step.activation, step.parameters).store(out + o * L);
    });
}

inline void softmax(const Tile &tile, const Step &step) {
    const float *a = at(tile, step.a);
    float *out = at(tile, step.out);
    const std::int64_t last = step.a.rank - 1, n = step.a.shape[last];
    const std::int64_t sa = step.a.stride[last] * L, so = step.out.stride[last] * L;
    const Tensor outer = leading(step.a, 1);
    each(outer, step.out, outer, last, [&](std::int64_t i, std::int64_t o, std::int64_t) {
        const float *from = a + i * L;
        float *to = out + o * L;
        Vec top = Vec::load(from), sum = Vec::zero();
        for (std::int64_t k = 1; k < n; ++k) top = Vec::max(top, Vec::load(from + k * sa));
        if (step.op == Op::log_softmax) {
            for (std::int64_t k = 0; k < n; ++k) {
                sum = Vec::add(sum, exponential(Vec::sub(Vec::load(from + k * sa), top)));
            }
            const Vec all = Vec::add(top, logarithm(sum));
            for (std::int64_t k = 0; k < n; ++k) Vec::sub(Vec::load(from + k * sa), all).store(to + k * so);
            return;
        }
        for (std::int64_t k = 0; k < n; ++k) {
            const Vec e = exponential(Vec::sub(Vec::load(from + k * sa), top));
            sum = Vec::add(sum, e);
            e.store(to + k * so);
        }
        const Vec share = Vec::div(Vec::spread(1.0f), sum);
        for (std::int64_t k = 0; k < n; ++k) Vec::mul(Vec::load(to + k * so), share).store(to + k * so);
    });
}

// numbers: dims; parameters: epsilon; bias: weights and extra: biases of the elements, each may be null
inline void layer_norm(const Tile &tile, const Step &step) {
    const float *a = at(tile, step.a);
    float *out = at(tile, step.out);
    const std::int64_t dims = step.numbers[0];
    const Tensor inner = trailing(step.a, dims), outer = leading(step.a, dims), to = trailing(step.out, dims);
    const Vec count = Vec::spread(static_cast<float>(elements(inner)));
    each(outer, step.out, outer, outer.rank, [&](std::int64_t i, std::int64_t o, std::int64_t) {
        Vec sum = Vec::zero(), squares = Vec::zero();
        const auto over = [&](auto visit) { each(inner, to, inner, dims, visit); };
        over([&](std::int64_t k, std::int64_t, std::int64_t) { sum = Vec::add(sum, Vec::load(a + (i + k) * L)); });
        const Vec middle = Vec::div(sum, count);
        over([&](std::int64_t k, std::int64_t, std::int64_t) {
            const Vec d = Vec::sub(Vec::load(a + (i + k) * L), middle);
            squares = Vec::fma(d, d, squares);
        });
        const Vec variance = Vec::add(Vec::div(squares, count), Vec::spread(step.parameters[0]));
        const Vec factor = Vec::div(Vec::spread(1.0f), Vec::sqrt(variance));
        std::int64_t element = 0;
        over([&](std::int64_t k, std::int64_t j, std::int64_t) {
            Vec v = Vec::mul(Vec::sub(Vec::load(a + (i + k) * L), middle), factor);
            if (step.bias != nullptr) v = Vec::mul(v, Vec::spread(step.bias[element]));
            if (step.extra != nullptr) v = Vec::add(v, Vec::spread(step.extra[element]));
            v.store(out + (o + j) * L);
            ++element;
        });
    });
}

// R rows of a by two columns of b, in registers
template <int R>
void multiply_block(const float *a, std::int64_t a_m, std::int64_t a_k, const float *b, std::int64_t b_k,
                    std::int64_t b_n, std::int64_t columns, std::int64_t K, float *out, std::int64_t o_m,
                    std::int64_t o_n) {
    Vec sum[R][2];
    for (int r = 0; r < R; ++r) sum[r][0] = sum[r][1] = Vec::zero();
    const std::int64_t second = columns > 1 ? b_n : 0;
    for (std::int64_t k = 0; k < K; ++k) {
        const Vec b0 = Vec::load(b + k * b_k), b1 = Vec::load(b + k * b_k + second);
        for (int r = 0; r < R; ++r) {
            const Vec v = Vec::load(a + r * a_m + k * a_k);
            sum[r][0] = Vec::fma(v, b0, sum[r][0]);
            sum[r][1] = Vec::fma(v, b1, sum[r][1]);
        }
    }
    for (int r = 0; r < R; ++r) {
        sum[r][0].store(out + r * o_m);
        if (columns > 1) sum[r][1].store(out + r * o_m + o_n);
    }
}

inline void matmul(const Tile &tile, const Step &step) {
    const float *a = at(tile, step.a), *b = at(tile, step.b);
    float *out = at(tile, step.out);
    const std::int64_t batch = step.out.rank - 2, M = step.out.shape[batch], N = step.out.shape[batch + 1];
    const std::int64_t K = step.a.shape[batch + 1], a_m = step.a.stride[batch] * L, a_k = step.a.stride[batch + 1] * L;
    const std::int64_t b_k = step.b.stride[batch] * L, b_n = step.b.stride[batch + 1] * L;
    const std::int64_t o_m = step.out.stride[batch] * L, o_n = step.out.stride[batch + 1] * L;
    each(step.out, step.a, step.b, batch, [&](std::int64_t o, std::int64_t i, std::int64_t j) {
        const float *left = a + i * L, *right = b + j * L;
        float *to = out + o * L;
        std::int64_t m = 0;
        for (; m + 4 <= M; m += 4) {
            for (std::int64_t n = 0; n < N; n += 2) {
                multiply_block<4>(left + m * a_m, a_m, a_k, right + n * b_n, b_k, b_n, N - n, K, to + m * o_m + n * o_n,
                                  o_m, o_n);
            }
        }
        for (; m < M; ++m) {
            for (std::int64_t n = 0; n < N; n += 2) {
                multiply_block<1>(left + m * a_m, a_m, a_k, right + n * b_n, b_k, b_n, N - n, K, to + m * o_m + n * o_n,
                                  o_m, o_n);
            }
        }
    });
}

// bias: the table [indices, E]; a holds whole numbers as floats, out is [E, positions …]
inline void embedding(const Tile &tile, const Step &step) {
    const float *a = at(tile, step.a);
    float *out = at(tile, step.out);
    const std::int64_t E = step.out.shape[0];
    const Tensor positions = trailing(step.out, step.out.rank - 1);
    each(positions, step.a, positions, positions.rank, [&](std::int64_t o, std::int64_t i, std::int64_t) {
        for (std::int64_t lane = 0; lane < L; ++lane) {
            const float *entry = step.bias + static_cast<std::int64_t>(a[i * L + lane]) * E;
            for (std::int64_t e = 0; e < E; ++e) out[(o + e * step.out.stride[0]) * L + lane] = entry[e];
        }
    });
}

}  // namespace
}  // namespace optprune::population

#endif
