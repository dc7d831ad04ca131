#include "core/base/error.h"
#include "core/kernels/fused_products.h"
#include "core/kernels/fused_shapes.h"
#include "core/kernels/launch_cuda.h"
#include "core/kernels/plans_cudnn.h"

namespace fwl {
namespace {

using cudnn::Node;
using cudnn::Plans;
namespace fe = cudnn::fe;

constexpr int64_t kProduct = 2;  // of a problem's key

// act [n, f] = relu(x [n, d] w [d, f])^2, or the cotangent 2 sqrt(act) (x w).
struct Product {
  int64_t n, d, f;
  bool backward;
  int device;

  std::vector<int64_t> key() const { return {kProduct, n, d, f, backward, device}; }
};

enum Name : int64_t { kX = 1, kWeight, kAct, kOut };

// cuDNN's own order is for products alone; with an epilogue it is not the fastest first (H200, cuDNN 9.19,
// the one that torch 2.11 brings). Where none of these is offered, its first.
std::vector<std::string> preferred(const Product& p) {
  constexpr int64_t kNarrow = 512;
  if (p.backward && p.d <= kNarrow) return {"eng4_k24=33", "eng4_k24=2"};
  return {"eng4_k24=2", "eng4_k24=40"};
}

int64_t index_of_plan(const fe::graph::Graph& graph, const Product& p) {
  const int64_t count = graph.get_execution_plan_count();
  for (const std::string& wanted : preferred(p)) {
    for (int64_t i = 0; i < count; ++i) {
      std::string name;
      if (graph.get_plan_name_at_index(i, name).is_good() && name == wanted) return i;
    }
  }
  return 0;
}

std::shared_ptr<fe::graph::Graph> make_graph(const Product& p, cudnnHandle_t handle) {
  using cudnn::input, cudnn::output, cudnn::require_good;
  const std::shared_ptr<fe::graph::Graph> graph = cudnn::new_graph();
  const auto pointwise = [](fe::PointwiseMode_t mode) {
    return fe::graph::Pointwise_attributes().set_mode(mode);
  };
  const std::vector<int64_t> out_sizes = {1, p.n, p.f}, out_strides = {p.n * p.f, p.f, 1};
  const Node x = input(*graph, kX, {1, p.n, p.d}, {p.n * p.d, p.d, 1});
  // [f, d] as it is kept, or [d, f].
  const Node weight =
      input(*graph, kWeight, {1, p.d, p.f},
            p.backward ? std::vector<int64_t>{p.d * p.f, p.f, 1} : std::vector<int64_t>{p.d * p.f, 1, p.d});
  const Node product =
      graph->matmul(x, weight, fe::graph::Matmul_attributes().set_compute_data_type(fe::DataType_t::FLOAT));
  Node out;
  if (p.backward) {
    const Node act = input(*graph, kAct, out_sizes, out_strides);
    const Node root = graph->pointwise(act, pointwise(fe::PointwiseMode_t::SQRT));
    const Node slope = graph->pointwise(root, root, pointwise(fe::PointwiseMode_t::ADD));
    out = graph->pointwise(product, slope, pointwise(fe::PointwiseMode_t::MUL));
  } else {
    const Node relu = graph->pointwise(product, pointwise(fe::PointwiseMode_t::RELU_FWD));
    out = graph->pointwise(relu, relu, pointwise(fe::PointwiseMode_t::MUL));
  }
  output(out, kOut, out_sizes, out_strides);
  require_good(graph->validate());
  require_good(graph->build_operation_graph(handle));
  require_good(graph->create_execution_plans({fe::HeurMode_t::A}));
  require_good(graph->build_plan_at_index(handle, index_of_plan(*graph, p)));
  return graph;
}

class ProductProblem final : public cudnn::Problem {
 public:
  explicit ProductProblem(const Product& p) : p_(p) {}
  std::vector<int64_t> key() const override { return p_.key(); }
  int device() const override { return p_.device; }
  std::string what() const override {
    return cat("a product of ", p_.n, " x ", p_.d, " and ", p_.d, " x ", p_.f, " with the squared ReLU",
               p_.backward ? "'s gradient" : "");
  }
  std::string instead() const override {
    return "so the activation runs beside the products, which takes longer";
  }
  std::shared_ptr<fe::graph::Graph> make(cudnnHandle_t handle) const override {
    return make_graph(p_, handle);
  }

 private:
  Product p_;
};

Product product_of(const Tensor& x_nd, int64_t f, bool backward) {
  return {x_nd.size(0) / kProductTokens * kProductTokens, x_nd.size(1), f, backward, x_nd.device().index()};
}

// The product's rows of `out_nf`, which are its first.
void run(const Product& p, const Tensor& any_x_nd, const Tensor& any_weight, const Tensor& any_act_nf,
         const Tensor& out_nf) {
  const auto ready = [](const Tensor& t) { return t.defined() ? cuda::on_vectors(t.contiguous()) : t; };
  const Tensor x_nd = ready(any_x_nd), weight = ready(any_weight), act_nf = ready(any_act_nf);
  cudnn::Pointers pointers = {{kX, x_nd.data_ptr()}, {kWeight, weight.data_ptr()}, {kOut, out_nf.data_ptr()}};
  if (act_nf.defined()) pointers[kAct] = act_nf.data_ptr();
  Plans::all().run(ProductProblem(p), pointers, x_nd.options());
}

}  // namespace

bool has_fused_products(const Tensor& x_nd, const Tensor& weight) {
  const bool suits = x_nd.is_cuda() && x_nd.scalar_type() == at::kBFloat16 &&
                     weight.scalar_type() == at::kBFloat16 && weight.numel() % x_nd.size(1) == 0;
  const int64_t f = weight.numel() / x_nd.size(1);
  if (refusal_of_fused_products({suits, x_nd.size(0), x_nd.size(1), f, at::GradMode::is_enabled()}))
    return false;
  return Plans::all().has(ProductProblem(product_of(x_nd, f, false))) &&
         (!at::GradMode::is_enabled() || Plans::all().has(ProductProblem(product_of(x_nd, f, true))));
}

Tensor squared_relu_product(const Tensor& x_nd, const Tensor& up_fd) {
  const Product p = product_of(x_nd, up_fd.size(0), false);
  const Tensor act_nf = at::empty({x_nd.size(0), p.f}, x_nd.options());
  run(p, x_nd, up_fd, {}, act_nf);
  if (const int64_t rest = x_nd.size(0) - p.n; rest > 0) {
    Tensor rest_nf = act_nf.narrow(0, p.n, rest);
    at::mm_out(rest_nf, x_nd.narrow(0, p.n, rest), up_fd.t());
    rest_nf.clamp_min_(0).square_();
  }
  return act_nf;
}

Tensor squared_relu_product_backward(const Tensor& y_bar_nd, const Tensor& down_df, const Tensor& act_nf) {
  const Product p = product_of(y_bar_nd, down_df.size(1), true);
  const Tensor u_bar_nf = at::empty({p.n, p.f}, y_bar_nd.options());
  run(p, y_bar_nd, down_df, act_nf, u_bar_nf);
  return u_bar_nf;
}

}  // namespace fwl
