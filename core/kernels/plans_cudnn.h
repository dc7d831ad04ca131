// cuDNN's graphs: plans that are made once a problem and run from then on. For *_cudnn.cpp files alone: they
// see cuDNN's frontend, headers that are compiled in; the library is the one that LibTorch has loaded, found
// by name, so that one binary runs without a GPU too.
#pragma once

#include <cudnn_frontend.h>

#include <map>
#include <mutex>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/base/torch.h"

namespace fwl::cudnn {

namespace fe = cudnn_frontend;

using Node = std::shared_ptr<fe::graph::Tensor_attributes>;
using Pointers = std::unordered_map<int64_t, void*>;  // of a graph's inputs and outputs, by uid

// Throw InternalError with what cuDNN says.
void require_good(fe::error_object status);
void require_good(cudnnStatus_t status);

// A graph of bfloat16 tensors, computed in float32.
std::shared_ptr<fe::graph::Graph> new_graph();
Node input(fe::graph::Graph& graph, int64_t uid, const std::vector<int64_t>& sizes,
           const std::vector<int64_t>& strides, fe::DataType_t type = fe::DataType_t::BFLOAT16);
void output(const Node& node, int64_t uid, const std::vector<int64_t>& sizes,
            const std::vector<int64_t>& strides, fe::DataType_t type = fe::DataType_t::BFLOAT16);

// What a plan is for. Asked several times a layer: words are made where a message is.
class Problem {
 public:
  virtual ~Problem() = default;
  virtual std::vector<int64_t> key() const = 0;  // unlike those of all other problems
  virtual int device() const = 0;
  virtual std::string what() const = 0;     // for messages
  virtual std::string instead() const = 0;  // what runs when cuDNN has no plan
  // Builds a graph with its plan; throws when there is none.
  virtual std::shared_ptr<fe::graph::Graph> make(cudnnHandle_t handle) const = 0;
};

// All threads share them: autograd's own runs the backward.
class Plans {
 public:
  static Plans& all();
  // Whether cuDNN has a plan for the problem; the first refusal of each kind is logged.
  bool has(const Problem& problem);
  // On the current stream. Throws InternalError where has() is false.
  void run(const Problem& problem, Pointers pointers, const at::TensorOptions& options);

 private:
  struct Plan {
    std::shared_ptr<fe::graph::Graph> graph;  // null: there is none
    int64_t workspace_bytes = 0;
  };
  cudnnHandle_t handle_of(int device);
  const Plan* plan_of(const Problem& problem);  // null: there is none; with the mutex held

  std::mutex mutex_;
  std::set<std::string> warned_;  // what runs instead, where that was said
  std::map<int, cudnnHandle_t> handles_;
  std::map<std::vector<int64_t>, Plan> plans_;
};

}  // namespace fwl::cudnn
