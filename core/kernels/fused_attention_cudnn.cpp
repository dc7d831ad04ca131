#include <array>
#include <cmath>

#include "core/base/autograd.h"
#include "core/base/error.h"
#include "core/kernels/fused_attention.h"
#include "core/kernels/fused_shapes.h"
#include "core/kernels/plans_cudnn.h"

namespace fwl {
namespace {

using cudnn::Node;
using cudnn::Plans;
using cudnn::Pointers;
namespace fe = cudnn::fe;

constexpr int64_t kAttention = 1;  // of a problem's key

// What a plan is for. The output lies as [B, T, H, E] and so does its gradient; with as many keys as queries
// the gradients of q, k and v lie side by side as [B, T, 3, H, E], where the projection's gradient wants
// them.
struct Attention {
  std::vector<int64_t> q_sizes, k_sizes;                 // [B, H, T, E]; keys and values may be more
  std::vector<int64_t> q_strides, k_strides, v_strides;  // of the inputs
  int64_t window = 0;                                    // 0: all keys
  int device = 0;
  bool wants_stats = false;                      // of a forward: a backward will follow
  bool backward = false, deterministic = false;  // the latter of a backward

  std::vector<int64_t> key() const {
    std::vector<int64_t> all;
    all.reserve(6 + 5 * 4);
    all = {kAttention, window, device, wants_stats, backward, deterministic};
    for (const auto* part : {&q_sizes, &k_sizes, &q_strides, &k_strides, &v_strides})
      all.insert(all.end(), part->begin(), part->end());
    return all;
  }
  float scale() const { return 1.0F / std::sqrt(static_cast<float>(q_sizes[3])); }
  bool is_square() const { return q_sizes == k_sizes; }
  std::vector<int64_t> out_strides() const { return strides_of(q_sizes, 1); }
  std::vector<int64_t> gradient_strides(const std::vector<int64_t>& sizes) const {
    return strides_of(sizes, is_square() ? 3 : 1);
  }
  std::vector<int64_t> stats_sizes() const { return {q_sizes[0], q_sizes[1], q_sizes[2], 1}; }
  std::vector<int64_t> stats_strides() const { return {q_sizes[1] * q_sizes[2], q_sizes[2], 1, 1}; }

 private:
  // Of one of `parts` that lie side by side in [B, T, parts, H, E].
  static std::vector<int64_t> strides_of(const std::vector<int64_t>& sizes, int64_t parts) {
    const int64_t heads = sizes[1], length = sizes[2], width = sizes[3];
    return {length * parts * heads * width, width, parts * heads * width, 1};
  }
};

enum Name : int64_t { kQ = 1, kK, kV, kOut, kStats, kOutBar, kQBar, kKBar, kVBar };
// The last `window` keys up to each query's own; the last query's own is the last key.
template <typename Attributes>
Attributes band(const Attention& p) {
  Attributes a;
  a.set_attn_scale(p.scale())
      .set_diagonal_alignment(p.is_square() ? fe::DiagonalAlignment_t::TOP_LEFT
                                            : fe::DiagonalAlignment_t::BOTTOM_RIGHT)
      .set_diagonal_band_right_bound(0);
  if (p.window > 0) a.set_diagonal_band_left_bound(static_cast<int>(p.window));
  return a;
}

std::shared_ptr<fe::graph::Graph> make_graph(const Attention& p, cudnnHandle_t handle) {
  using cudnn::input, cudnn::output;
  const std::shared_ptr<fe::graph::Graph> made = cudnn::new_graph();
  fe::graph::Graph& graph = *made;
  const Node q = input(graph, kQ, p.q_sizes, p.q_strides), k = input(graph, kK, p.k_sizes, p.k_strides),
             v = input(graph, kV, p.k_sizes, p.v_strides);
  if (p.backward) {
    const Node out = input(graph, kOut, p.q_sizes, p.out_strides()),
               out_bar = input(graph, kOutBar, p.q_sizes, p.out_strides()),
               stats = input(graph, kStats, p.stats_sizes(), p.stats_strides(), fe::DataType_t::FLOAT);
    auto options = band<fe::graph::SDPA_backward_attributes>(p);
    options.set_deterministic_algorithm(p.deterministic);
    const auto [q_bar, k_bar, v_bar] = graph.sdpa_backward(q, k, v, out, out_bar, stats, options);
    output(q_bar, kQBar, p.q_sizes, p.gradient_strides(p.q_sizes));
    output(k_bar, kKBar, p.k_sizes, p.gradient_strides(p.k_sizes));
    output(v_bar, kVBar, p.k_sizes, p.gradient_strides(p.k_sizes));
  } else {
    auto options = band<fe::graph::SDPA_attributes>(p);
    options.set_generate_stats(p.wants_stats);
    const auto [out, stats] = graph.sdpa(q, k, v, options);
    output(out, kOut, p.q_sizes, p.out_strides());
    if (p.wants_stats) output(stats, kStats, p.stats_sizes(), p.stats_strides(), fe::DataType_t::FLOAT);
  }
  cudnn::require_good(graph.build(handle, {fe::HeurMode_t::A}));
  return made;
}

class AttentionProblem final : public cudnn::Problem {
 public:
  // `p` outlives it.
  explicit AttentionProblem(const Attention& p) : p_(p) {}
  std::vector<int64_t> key() const override { return p_.key(); }
  int device() const override { return p_.device; }
  std::string what() const override {
    return cat("attention of queries ", p_.q_sizes, " to keys ", p_.k_sizes, ", window ", p_.window);
  }
  std::string instead() const override { return "so it runs on LibTorch's kernels, which take longer"; }
  std::shared_ptr<fe::graph::Graph> make(cudnnHandle_t handle) const override {
    return make_graph(p_, handle);
  }

 private:
  const Attention& p_;
};

Attention problem_of(const Tensor& q_bhte, const Tensor& k_bhte, const Tensor& v_bhte, int64_t window,
                     bool wants_stats) {
  Attention p;
  p.q_sizes = q_bhte.sizes().vec();
  p.k_sizes = k_bhte.sizes().vec();
  p.q_strides = q_bhte.strides().vec();
  p.k_strides = k_bhte.strides().vec();
  p.v_strides = v_bhte.strides().vec();
  p.window = window;
  p.device = q_bhte.device().index();
  p.wants_stats = wants_stats;
  return p;
}
Attention backward_of(Attention p) {
  p.wants_stats = false;
  p.backward = true;
  p.deterministic = at::globalContext().deterministicAlgorithms();
  return p;
}

// Of q, k and v, laid out as the problem has them.
std::array<Tensor, 3> empty_gradients(const Attention& p, const at::TensorOptions& options) {
  const int64_t batch = p.q_sizes[0], heads = p.q_sizes[1], width = p.q_sizes[3];
  if (p.is_square()) {
    const Tensor all = at::empty({batch, p.q_sizes[2], 3, heads, width}, options);
    const auto part = [&](int64_t i) { return all.select(2, i).transpose(1, 2); };
    return {part(0), part(1), part(2)};
  }
  const auto alone = [&](int64_t length) {
    return at::empty({batch, length, heads, width}, options).transpose(1, 2);
  };
  return {alone(p.q_sizes[2]), alone(p.k_sizes[2]), alone(p.k_sizes[2])};
}

class FusedAttention : public torch::autograd::Function<FusedAttention> {
 public:
  static Tensor forward(AutogradContext* ctx, const Tensor& q_bhte, const Tensor& k_bhte,
                        const Tensor& v_bhte, int64_t window, bool wants_gradient) {
    const Attention p = problem_of(q_bhte, k_bhte, v_bhte, window, wants_gradient);
    Tensor out =
        at::empty({p.q_sizes[0], p.q_sizes[2], p.q_sizes[1], p.q_sizes[3]}, q_bhte.options()).transpose(1, 2);
    const Tensor stats =
        wants_gradient ? at::empty(p.stats_sizes(), q_bhte.options().dtype(at::kFloat)) : Tensor();
    Pointers pointers = {
        {kQ, q_bhte.data_ptr()}, {kK, k_bhte.data_ptr()}, {kV, v_bhte.data_ptr()}, {kOut, out.data_ptr()}};
    if (wants_gradient) pointers[kStats] = stats.data_ptr();
    Plans::all().run(AttentionProblem(p), pointers, q_bhte.options());
    ctx->saved_data["window"] = window;
    ctx->save_for_backward({q_bhte, k_bhte, v_bhte, out, stats});
    return out;
  }

  static variable_list backward(AutogradContext* ctx, variable_list bars) {
    const auto saved = ctx->get_saved_variables();
    const Tensor &q = saved[0], &k = saved[1], &v = saved[2], &out = saved[3], &stats = saved[4];
    const Attention p = backward_of(problem_of(q, k, v, ctx->saved_data["window"].toInt(), true));
    const Tensor out_bar = bars[0].transpose(1, 2).contiguous();
    const auto [q_bar, k_bar, v_bar] = empty_gradients(p, q.options());
    Plans::all().run(AttentionProblem(p),
                     {{kQ, q.data_ptr()},
                      {kK, k.data_ptr()},
                      {kV, v.data_ptr()},
                      {kOut, out.data_ptr()},
                      {kOutBar, out_bar.data_ptr()},
                      {kStats, stats.data_ptr()},
                      {kQBar, q_bar.data_ptr()},
                      {kKBar, k_bar.data_ptr()},
                      {kVBar, v_bar.data_ptr()}},
                     q.options());
    return {q_bar, k_bar, v_bar, Tensor(), Tensor()};
  }
};

bool wants_gradient(const Tensor& q_bhte, const Tensor& k_bhte, const Tensor& v_bhte) {
  return at::GradMode::is_enabled() &&
         (q_bhte.requires_grad() || k_bhte.requires_grad() || v_bhte.requires_grad());
}

}  // namespace

bool has_cudnn() {
  return true;
}

bool has_fused_attention(const Tensor& q_bhte, const Tensor& k_bhte, const Tensor& v_bhte, int64_t window) {
  const auto lies_well = [](const Tensor& x) {
    return x.stride(3) == 1 && reinterpret_cast<uintptr_t>(x.const_data_ptr()) % 16 == 0;
  };
  const FusedAttentionShape shape{q_bhte.is_cuda() && q_bhte.scalar_type() == at::kBFloat16, q_bhte.size(3),
                                  q_bhte.size(2), k_bhte.size(2)};
  if (refusal_of_fused_attention(shape) || !lies_well(q_bhte) || !lies_well(k_bhte) || !lies_well(v_bhte))
    return false;
  const bool gradient = wants_gradient(q_bhte, k_bhte, v_bhte);
  const Attention p = problem_of(q_bhte, k_bhte, v_bhte, window, gradient);
  return Plans::all().has(AttentionProblem(p)) &&
         (!gradient || Plans::all().has(AttentionProblem(backward_of(p))));
}

Tensor fused_attention(const Tensor& q_bhte, const Tensor& k_bhte, const Tensor& v_bhte, int64_t window) {
  return FusedAttention::apply(q_bhte, k_bhte, v_bhte, window, wants_gradient(q_bhte, k_bhte, v_bhte));
}

}  // namespace fwl
