// Products whose factors are rounded to 8-bit floats (e4m3: 4 bits of exponent, 3 of mantissa; each factor is
// off by at most 1/16 of itself, or 2^-10 of the scale where it is small), for numbers that need no more:
// twice the rate of bfloat16 on a GPU that multiplies them (compute capability 8.9 and later). Elsewhere the
// same rounded factors are multiplied in the type that they came in. Without gradient.
//
// Shape suffixes: n row, d width, v vocabulary.
#pragma once

#include "core/base/torch.h"

namespace fwl {

// The right factor: rows divided by a common scale, a power of two that brings the largest entry to between
// 224 and e4m3's largest, 448, and rounded.
struct Float8Rows {
  // As float8_e4m3fn, to be multiplied by the scale; or, where products of those do not exist, the rounded
  // rows times the scale in the type that they came in (and no scale).
  Tensor rows_vd;
  Tensor scale;  // [], float32
};

// Whether rows like these are multiplied in 8 bits: bfloat16 on such a GPU, both sides multiples of 16.
bool multiplies_float8(const Tensor& weight_vd);

Float8Rows float8_rows(const Tensor& weight_vd);

// x round(E)^T into out_nv, contiguous, which has x's type; x is rounded without a scale (its entries above
// 448 become 448: the normed inputs of an unembedding are far below), so that no row depends on another.
void float8_product_out(Tensor& out_nv, const Tensor& x_nd, const Float8Rows& weight);

}  // namespace fwl
