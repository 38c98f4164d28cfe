// Steps that combine numbers of one sample: pooling, means, softmax, normalisation, products of two activations.
#ifndef OPTPRUNE_KERNELS_POPULATION_REDUCE_H
#define OPTPRUNE_KERNELS_POPULATION_REDUCE_H

#include "kernels/population/elementwise.h"

namespace optprune::population {
namespace {

// numbers: kernel y x, stride y x, padding y x, 1 if padding counts in the average, 1 if the rows above and below are
// there, as they are in a band
inline void pool(const Tile &tile, const Step &step) {
    const std::int64_t *n = step.numbers, H = step.a.shape[1], W = step.a.shape[2];
    const bool max = step.op == Op::max_pool;
    const float *a = at(tile, step.a);
    float *out = at(tile, step.out);
    const Tensor &o = step.out;
    for (std::int64_t y = 0; y < o.shape[1]; ++y) {
        const std::int64_t y0 = y * n[2] - n[4], y1 = y0 + n[0];
        const std::int64_t top = y0 < 0 && n[7] == 0 ? 0 : y0, bottom = y1 > H && n[7] == 0 ? H : y1;
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
    constexpr int abreast = 4;
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
        std::int64_t k = 0;
        for (; k + abreast <= n; k += abreast) {
            Vec e[abreast];
            for (int j = 0; j < abreast; ++j) e[j] = Vec::sub(Vec::load(from + (k + j) * sa), top);
            exponentials(e);
            for (int j = 0; j < abreast; ++j) {
                sum = Vec::add(sum, e[j]);
                e[j].store(to + (k + j) * so);
            }
        }
        for (; k < n; ++k) {
            const Vec e = exponential(Vec::sub(Vec::load(from + k * sa), top));
            sum = Vec::add(sum, e);
            e.store(to + k * so);
        }
        const Vec share = Vec::div(Vec::spread(1.0f), sum);
        for (k = 0; k < n; ++k) Vec::mul(Vec::load(to + k * so), share).store(to + k * so);
    });
}

// R sets of numbers, a_step and out_step floats apart, side by side: one alone would wait for its own sums.
template <int R>
void normalize(const Step &step, const float *a, std::int64_t a_step, float *out, std::int64_t out_step) {
    const std::int64_t dims = step.numbers[0];
    const Tensor inner = trailing(step.a, dims), to = trailing(step.out, dims);
    const Vec count = Vec::spread(static_cast<float>(elements(inner)));
    const auto over = [&](auto visit) { each(inner, to, inner, dims, visit); };
    Vec middle[R], factor[R];
    for (int r = 0; r < R; ++r) middle[r] = factor[r] = Vec::zero();
    over([&](std::int64_t k, std::int64_t, std::int64_t) {
        for (int r = 0; r < R; ++r) middle[r] = Vec::add(middle[r], Vec::load(a + k * L + r * a_step));
    });
    for (int r = 0; r < R; ++r) middle[r] = Vec::div(middle[r], count);
    over([&](std::int64_t k, std::int64_t, std::int64_t) {
        for (int r = 0; r < R; ++r) {
            const Vec d = Vec::sub(Vec::load(a + k * L + r * a_step), middle[r]);
            factor[r] = Vec::fma(d, d, factor[r]);
        }
    });
    for (int r = 0; r < R; ++r) {
        const Vec variance = Vec::add(Vec::div(factor[r], count), Vec::spread(step.parameters[0]));
        factor[r] = Vec::div(Vec::spread(1.0f), Vec::sqrt(variance));
    }
    std::int64_t element = 0;
    over([&](std::int64_t k, std::int64_t j, std::int64_t) {
        for (int r = 0; r < R; ++r) {
            Vec v = Vec::mul(Vec::sub(Vec::load(a + k * L + r * a_step), middle[r]), factor[r]);
            if (step.bias != nullptr) v = Vec::mul(v, Vec::spread(step.bias[element]));
            if (step.extra != nullptr) v = Vec::add(v, Vec::spread(step.extra[element]));
            v.store(out + j * L + r * out_step);
        }
        ++element;
    });
}

// numbers: dims; parameters: epsilon; bias: weights and extra: biases of the elements, each may be null
inline void layer_norm(const Tile &tile, const Step &step) {
    constexpr int abreast = 4;
    const float *a = at(tile, step.a);
    float *out = at(tile, step.out);
    const Tensor outer = leading(step.a, step.numbers[0]);
    // The last dimension that is not normalised over is taken some numbers at a time.
    const std::int64_t last = outer.rank > 0 ? outer.rank - 1 : 0, n = outer.rank > 0 ? outer.shape[last] : 1;
    const std::int64_t a_step = step.a.stride[last] * L, out_step = step.out.stride[last] * L;
    each(outer, step.out, outer, last, [&](std::int64_t i, std::int64_t o, std::int64_t) {
        std::int64_t r = 0;
        for (; r + abreast <= n; r += abreast) {
            normalize<abreast>(step, a + i * L + r * a_step, a_step, out + o * L + r * out_step, out_step);
        }
        for (; r < n; ++r) normalize<1>(step, a + i * L + r * a_step, a_step, out + o * L + r * out_step, out_step);
    });
}

// Where two matrices and their product lie; steps count floats. scale: factor and shift of the product, or null
struct Product {
    const float *a, *b, *scale;
    float *out;
    std::int64_t K, a_m, a_k, b_k, b_n, o_m, o_n;
};

// R rows of a by C columns of b, in registers
template <int R, int C>
void multiply_block(const Product &at, std::int64_t m, std::int64_t n) {
    const float *a = at.a + m * at.a_m, *b = at.b + n * at.b_n;
    float *out = at.out + m * at.o_m + n * at.o_n;
    Vec sum[R][C];
    for (int r = 0; r < R; ++r) {
        for (int c = 0; c < C; ++c) sum[r][c] = Vec::zero();
    }
    for (std::int64_t k = 0; k < at.K; ++k, a += at.a_k, b += at.b_k) {
        Vec row[R];
        for (int r = 0; r < R; ++r) row[r] = Vec::load(a + r * at.a_m);
        for (int c = 0; c < C; ++c) {
            const Vec v = Vec::load(b + c * at.b_n);
            for (int r = 0; r < R; ++r) sum[r][c] = Vec::fma(row[r], v, sum[r][c]);
        }
    }
    if (at.scale != nullptr) {
        const Vec factor = Vec::spread(at.scale[0]), shift = Vec::spread(at.scale[1]);
        for (int r = 0; r < R; ++r) {
            for (int c = 0; c < C; ++c) sum[r][c] = Vec::fma(sum[r][c], factor, shift);
        }
    }
    for (int r = 0; r < R; ++r) {
        for (int c = 0; c < C; ++c) sum[r][c].store(out + r * at.o_m + c * at.o_n);
    }
}

// Rows from m on, R at a time as long as there are so many.
template <int C, int R = Vec::block_rows>
void multiply_columns(const Product &at, std::int64_t M, std::int64_t n, std::int64_t m = 0) {
    for (; m + R <= M; m += R) multiply_block<R, C>(at, m, n);
    if constexpr (R > 1) {
        if (m < M) multiply_columns<C, R - 1>(at, M, n, m);
    }
}

// extra: factor and shift, or null
inline void matmul(const Tile &tile, const Step &step) {
    const float *a = at(tile, step.a), *b = at(tile, step.b);
    float *out = at(tile, step.out);
    const std::int64_t d = step.out.rank - 2, M = step.out.shape[d], N = step.out.shape[d + 1];
    const std::int64_t *by_a = step.a.stride + d, *by_b = step.b.stride + d, *by_out = step.out.stride + d;
    each(step.out, step.a, step.b, d, [&](std::int64_t o, std::int64_t i, std::int64_t j) {
        const Product product{a + i * L, b + j * L, step.extra, out + o * L, step.a.shape[d + 1],
                              by_a[0] * L, by_a[1] * L, by_b[0] * L, by_b[1] * L, by_out[0] * L, by_out[1] * L};
        std::int64_t n = 0;
        for (; n + 4 <= N; n += 4) multiply_columns<4>(product, M, n);
        if (N - n >= 2) multiply_columns<2>(product, M, n), n += 2;
        if (N - n == 1) multiply_columns<1>(product, M, n);
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
