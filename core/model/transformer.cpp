#include "core/model/transformer.h"

#include <cmath>

#include "core/base/autograd.h"
#include "core/base/error.h"
#include "core/kernels/matmul.h"
#include "core/kernels/norm.h"
#include "core/model/projections.h"

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

AddNorm apply_norm(const WeightView& w, const NormIndex& norm, const Tensor& x_btd, const Tensor& delta_btd) {
  return add_norm(x_btd, delta_btd, w(norm.scale), w(norm.bias), kNormEpsilon);
}

Projection projection_of(const WeightView& w, const ProjectionIndex& p) {
  return {w(p.weight), w(p.bias)};
}

Tensor project(const Projection& p, const Tensor& x_btd) {
  return at::linear(x_btd, p.weight, p.bias);
}

bool has_rotary(const ModelConfig& c) {
  return c.positions == "rotary";
}

Tensor embed(const ModelConfig& c, const BodyIndex& body, const WeightView& w, const Tensor& token_bt,
             int64_t first_position) {
  const Tensor x_btd = w.rows(body.embedding, token_bt);
  if (has_rotary(c)) return x_btd;
  const Tensor table_pd = w(body.positions);
  const int64_t length = token_bt.size(1);
  require<ConfigError>(first_position + length <= table_pd.size(0), "position ", first_position + length - 1,
                       " is beyond the ", table_pd.size(0),
                       " learned positions of this model. Read shorter sequences.");
  return x_btd + table_pd.narrow(0, first_position, length);
}

// Undefined where no document begins inside the sequences.
Tensor mask_of(const ModelConfig& c, const Tensor& document_start_bt, const at::TensorOptions& options,
               const SequenceView& view) {
  if (!c.document_mask || !document_start_bt.defined()) return {};
  const Tensor inside = document_start_bt.narrow(1, 1, document_start_bt.size(1) - 1);
  if (!inside.any().item<bool>()) return {};
  require<ConfigError>(
      view.is_whole(),
      "model.document_mask with sequences that are cut across ranks or go on from earlier ones "
      "is not built (the mask covers one whole window). Set model.document_mask=false, or "
      "parallel.sequence=1 and train.stream=false.");
  return document_mask(document_start_bt, c.window, options);
}

Tensor self_attention(const ModelConfig& c, const WeightView& w, const BlockIndex& block, int64_t layer,
                      const Tensor& x_btd, const RotaryTable& rotary, const Tensor& mask,
                      SequenceView& view) {
  const AttentionInputs in = project_qkv(x_btd, projection_of(w, block.qkv), c.heads, rotary);
  const Tensor y = mask.defined() ? masked_attention(in.q_bhte, in.k_bhte, in.v_bhte, mask)
                                  : view.attend(layer, in.q_bhte, in.k_bhte, in.v_bhte, c.window);
  return project(projection_of(w, block.attention_out),
                 y.transpose(1, 2).reshape({x_btd.size(0), x_btd.size(1), c.width}));
}

Tensor feed_forward(const ModelConfig& c, const WeightView& w, const BlockIndex& block, const Tensor& x_btd) {
  const Projection up = projection_of(w, block.up), down = projection_of(w, block.down);
  if (c.feed_forward == "swiglu") {
    const auto halves = project(up, x_btd).chunk(2, -1);
    return project(down, at::silu(halves[0]) * halves[1]);
  }
  return feed_forward(x_btd, up, down,
                      c.feed_forward == "gelu" ? Activation::kGelu : Activation::kSquaredRelu);
}

// Leaves its rows' gradients to the parameters, which add them to the table's.
class LookupFunction : public torch::autograd::Function<LookupFunction> {
 public:
  static Tensor forward(AutogradContext* ctx, const Tensor& table_vd, const Tensor& index,
                        const c10::intrusive_ptr<RowGradients>& rows) {
    ctx->saved_data["rows"] = c10::IValue::make_capsule(rows);
    ctx->save_for_backward({index});
    return at::embedding(table_vd, index);
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& bars) {
    const auto rows = c10::static_intrusive_pointer_cast<RowGradients>(ctx->saved_data["rows"].toCapsule());
    rows->waiting.push_back({ctx->get_saved_variables()[0].flatten(), bars[0].flatten(0, -2)});
    return {Tensor(), Tensor(), Tensor()};
  }
};

}  // namespace

Tensor WeightView::rows(ParameterIndex which, const Tensor& index) const {
  const Tensor table = (*this)(which);
  const Parameter& p = parameters_.at(which);
  const bool leaves_rows = p.rows && table.is_same(p.leaf) && at::GradMode::is_enabled();
  return leaves_rows ? LookupFunction::apply(table, index, p.rows) : at::embedding(table, index);
}

BodyIndex index_body(const ModelConfig& c, const Parameters& parameters) {
  BodyIndex body{parameters.index_of("embedding"), parameters.index_of("positions"), {}};
  for (int64_t layer = 0; layer < c.layers; ++layer) {
    const auto norm = [&](const char* part) {
      const std::string name = block_name(layer, part);
      return NormIndex{parameters.index_of(name + ".scale"), parameters.index_of(name + ".bias")};
    };
    const auto projection = [&](const char* part) {
      const std::string name = block_name(layer, part);
      return ProjectionIndex{parameters.index_of(name), parameters.index_of(name + ".bias")};
    };
    body.blocks.push_back({norm("norm1"), norm("norm2"), projection("attention.qkv"),
                           projection("attention.out"), projection("feed_forward.up"),
                           projection("feed_forward.down")});
  }
  return body;
}

void declare_body(const ModelConfig& c, at::Generator& generator, Parameters& parameters) {
  const double residual_std = kInitStd / std::sqrt(2.0 * static_cast<double>(std::max<int64_t>(c.layers, 1)));
  const int64_t hidden = feed_forward_width(c);
  const auto matrix = [&](const std::string& name, int64_t rows, int64_t columns, double std) {
    parameters.declare(name, ParameterGroup::kDecay, normal(generator, {rows, columns}, std));
  };
  const auto projection = [&](const std::string& name, int64_t rows, int64_t columns, double std) {
    matrix(name, rows, columns, std);
    if (c.projection_biases) parameters.declare(name + ".bias", ParameterGroup::kNoDecay, at::zeros({rows}));
  };
  matrix("embedding", c.vocab_size, c.width, kInitStd);
  if (!has_rotary(c)) {
    const int64_t positions = c.max_positions > 0 ? c.max_positions : c.context;
    parameters.declare("positions", ParameterGroup::kNoDecay,
                       normal(generator, {positions, c.width}, kInitStd));
  }
  for (int64_t layer = 0; layer < c.layers; ++layer) {
    declare_norm(c, block_name(layer, "norm1"), parameters);
    projection(block_name(layer, "attention.qkv"), 3 * c.width, c.width, kInitStd);
    projection(block_name(layer, "attention.out"), c.width, c.width, residual_std);
    declare_norm(c, block_name(layer, "norm2"), parameters);
    projection(block_name(layer, "feed_forward.up"), (c.feed_forward == "swiglu" ? 2 : 1) * hidden, c.width,
               kInitStd);
    projection(block_name(layer, "feed_forward.down"), c.width, hidden, residual_std);
  }
}

Tensor body_forward(const ModelConfig& c, const BodyIndex& body, const WeightView& w, const Tensor& token_bt,
                    const Tensor& document_start_bt, SequenceView& view) {
  Tensor x_btd = embed(c, body, w, token_bt, view.first_position());
  RotaryTable rotary;
  if (has_rotary(c))
    rotary = rotary_table(view.first_position(), token_bt.size(1), c.width / c.heads, c.rotary_base,
                          x_btd.options().dtype(accumulate_type(x_btd.scalar_type())));
  const Tensor mask = mask_of(c, document_start_bt, x_btd.options(), view);
  Tensor delta_btd;  // what the block before adds; it is added where the next norm reads the sum
  const auto normed = [&](const NormIndex& norm) {
    const AddNorm next = apply_norm(w, norm, x_btd, delta_btd);
    x_btd = next.sum;
    return next.norm;
  };
  for (int64_t layer = 0; layer < c.layers; ++layer) {
    const BlockIndex& block = body.blocks[static_cast<size_t>(layer)];
    delta_btd = self_attention(c, w, block, layer, normed(block.norm1), rotary, mask, view);
    delta_btd = feed_forward(c, w, block, normed(block.norm2));
  }
  if (delta_btd.defined()) x_btd = x_btd + delta_btd;
  return x_btd;
}

}  // namespace fwl
