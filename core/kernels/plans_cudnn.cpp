#include <c10/cuda/CUDAStream.h>
#include <dlfcn.h>

#include "core/base/error.h"
#include "core/base/log.h"
#include "core/kernels/plans_cudnn.h"

namespace cudnn_frontend {
void* cudnn_dlhandle = nullptr;  // libcudnn, which LibTorch's CUDA library has loaded
}

namespace fwl::cudnn {
namespace {

bool load() {
  if (fe::cudnn_dlhandle == nullptr) fe::cudnn_dlhandle = dlopen("libcudnn.so.9", RTLD_NOW | RTLD_NOLOAD);
  if (fe::cudnn_dlhandle == nullptr) fe::cudnn_dlhandle = dlopen("libcudnn.so.9", RTLD_NOW);
  return fe::cudnn_dlhandle != nullptr;
}

}  // namespace

void require_good(fe::error_object status) {
  require<InternalError>(status.is_good(), "cuDNN: ", status.get_message());
}
void require_good(cudnnStatus_t status) {
  require<InternalError>(status == CUDNN_STATUS_SUCCESS, "cuDNN: status ", static_cast<int>(status));
}

std::shared_ptr<fe::graph::Graph> new_graph() {
  auto graph = std::make_shared<fe::graph::Graph>();
  graph->set_io_data_type(fe::DataType_t::BFLOAT16)
      .set_intermediate_data_type(fe::DataType_t::FLOAT)
      .set_compute_data_type(fe::DataType_t::FLOAT);
  return graph;
}

Node input(fe::graph::Graph& graph, int64_t uid, const std::vector<int64_t>& sizes,
           const std::vector<int64_t>& strides, fe::DataType_t type) {
  return graph.tensor(
      fe::graph::Tensor_attributes().set_uid(uid).set_dim(sizes).set_stride(strides).set_data_type(type));
}

void output(const Node& node, int64_t uid, const std::vector<int64_t>& sizes,
            const std::vector<int64_t>& strides, fe::DataType_t type) {
  node->set_output(true).set_uid(uid).set_dim(sizes).set_stride(strides).set_data_type(type);
}

Plans& Plans::all() {
  static Plans& plans = *new Plans;  // never destroyed: at exit CUDA may be gone before
  return plans;
}

bool Plans::has(const Problem& problem) {
  const std::lock_guard<std::mutex> lock(mutex_);
  return plan_of(problem) != nullptr;
}

void Plans::run(const Problem& problem, Pointers pointers, const at::TensorOptions& options) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const Plan* plan = plan_of(problem);
  require<InternalError>(plan != nullptr, "cuDNN has no plan for ", plan == nullptr ? problem.what() : "");
  const Tensor workspace = at::empty({plan->workspace_bytes}, options.dtype(at::kByte));
  cudnnHandle_t handle = handle_of(problem.device());
  require_good(fe::detail::set_stream(handle, c10::cuda::getCurrentCUDAStream()));
  require_good(plan->graph->execute(handle, pointers, workspace.data_ptr()));
}

cudnnHandle_t Plans::handle_of(int device) {
  cudnnHandle_t& handle = handles_[device];
  if (handle == nullptr) require_good(fe::detail::create_handle(&handle));
  return handle;
}

const Plans::Plan* Plans::plan_of(const Problem& problem) {
  const auto [place, is_new] = plans_.try_emplace(problem.key());
  if (is_new) {
    try {
      require<InternalError>(load(), "libcudnn.so.9 was not found");
      Plan plan{problem.make(handle_of(problem.device()))};
      require_good(plan.graph->get_workspace_size(plan.workspace_bytes));
      place->second = plan;
    } catch (const std::exception& error) {
      if (warned_.insert(problem.instead()).second)
        log_warn(cat("for ", problem.what(), " cuDNN has no plan, ", problem.instead(), " (", error.what(),
                     "). Said once."));
    }
  }
  return place->second.graph ? &place->second : nullptr;
}

}  // namespace fwl::cudnn
