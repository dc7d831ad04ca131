#include "core/model/transformer.h"

#include <cmath>

#include "core/base/error.h"

namespace fwl {
namespace {

constexpr double kNormEpsilon = 1e-5;
constexpr double kInitStd = 0.02;

Tensor normal(at::Generator& generator, at::IntArrayRef shape, double std) {
  return at::empty(shape, at::kFloat).normal_(0.0, std, generator);
}

std::string block_name(int64_t layer, const char* part) {
  return cat("body.", layer, ".", part);
}

int64_t feed_forward_width(const ModelConfig& c) {
  return std::llround(c.feed_forward_ratio * static_cast<double>(c.width));
}

void declare_norm(const ModelConfig& c, const std::string& name, Parameters& parameters) {
  parameters.declare(name + ".scale", ParameterGroup::kNoDecay, at::ones({c.width}));
  if (c.norm == "layer") parameters.declare(name + ".bias", ParameterGroup::kNoDecay, at::zeros({c.width}));
}

Tensor apply_norm(const WeightView& w, const std::string& name, const Tensor& x_btd) {
  const Tensor scale = w(name + ".scale"), bias = w.optional(name + ".bias");
  if (bias.defined()) return at::layer_norm(x_btd, {x_btd.size(-1)}, scale, bias, kNormEpsilon);
  return at::rms_norm(x_btd, {x_btd.size(-1)}, scale, kNormEpsilon);
}

Tensor self_attention(const ModelConfig& c, const WeightView& w, int64_t layer, const Tensor& x_btd,
                      const RotaryTable& rotary, SequenceView& view) {
  const int64_t batch = x_btd.size(0), length = x_btd.size(1);
  const Tensor qkv = at::linear(x_btd, w(block_name(layer, "attention.qkv")))
                         .view({batch, length, 3, c.heads, c.width / c.heads});
  const auto part = [&](int64_t i) { return qkv.select(2, i).transpose(1, 2); };
  const Tensor q = rotate(part(0), rotary), k = rotate(part(1), rotary), v = part(2);
  const Tensor y = view.attend(layer, q, k, v, c.window);
  return at::linear(y.transpose(1, 2).reshape({batch, length, c.width}),
                    w(block_name(layer, "attention.out")));
}

Tensor feed_forward(const ModelConfig& c, const WeightView& w, int64_t layer, const Tensor& x_btd) {
  const Tensor up = at::linear(x_btd, w(block_name(layer, "feed_forward.up")));
  Tensor act;
  if (c.feed_forward == "swiglu") {
    const auto halves = up.chunk(2, -1);
    act = at::silu(halves[0]) * halves[1];
  } else {
    act = at::relu(up).square();
  }
  return at::linear(act, w(block_name(layer, "feed_forward.down")));
}

}  // namespace

void declare_body(const ModelConfig& c, at::Generator& generator, Parameters& parameters) {
  const double residual_std = kInitStd / std::sqrt(2.0 * static_cast<double>(std::max<int64_t>(c.layers, 1)));
  const int64_t hidden = feed_forward_width(c);
  const auto matrix = [&](const std::string& name, int64_t rows, int64_t columns, double std) {
    parameters.declare(name, ParameterGroup::kDecay, normal(generator, {rows, columns}, std));
  };
  matrix("embedding", c.vocab_size, c.width, kInitStd);
  for (int64_t layer = 0; layer < c.layers; ++layer) {
    declare_norm(c, block_name(layer, "norm1"), parameters);
    matrix(block_name(layer, "attention.qkv"), 3 * c.width, c.width, kInitStd);
    matrix(block_name(layer, "attention.out"), c.width, c.width, residual_std);
    declare_norm(c, block_name(layer, "norm2"), parameters);
    matrix(block_name(layer, "feed_forward.up"), (c.feed_forward == "swiglu" ? 2 : 1) * hidden, c.width,
           kInitStd);
    matrix(block_name(layer, "feed_forward.down"), c.width, hidden, residual_std);
  }
}

Tensor body_forward(const ModelConfig& c, const WeightView& w, const Tensor& token_bt, SequenceView& view) {
  Tensor x_btd = at::embedding(w("embedding"), token_bt);
  const RotaryTable rotary = rotary_table(view.first_position(), token_bt.size(1), c.width / c.heads,
                                          c.rotary_base, x_btd.options());
  for (int64_t layer = 0; layer < c.layers; ++layer) {
    x_btd =
        x_btd + self_attention(c, w, layer, apply_norm(w, block_name(layer, "norm1"), x_btd), rotary, view);
    x_btd = x_btd + feed_forward(c, w, layer, apply_norm(w, block_name(layer, "norm2"), x_btd));
  }
  return x_btd;
}

}  // namespace fwl
