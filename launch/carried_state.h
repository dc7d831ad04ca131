// What train.stream carries, between the ranks that hold it and a checkpoint: one set of named tensors over
// all streams (first dim: the stream), independent of the layout.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "core/model/sequence_view.h"
#include "launch/step_gradient.h"

namespace fwl {

using NamedTensors = std::vector<std::pair<std::string, Tensor>>;

// "fast.dense1", "fast.dense2", "fast.norm", "attention.LAYER.key", "attention.LAYER.value"; undefined ones
// are left out. On the CPU, float32 or float64.
NamedTensors to_named(const StreamState& state);
// `device` and `compute`: where keys and values go, and their dtype. Throws DataError for an unknown name.
StreamState from_named(const NamedTensors& tensors, int64_t position, at::Device device,
                       at::ScalarType compute);

// Collective over the world. All streams on rank 0; empty elsewhere.
NamedTensors gather_streams(Mesh& mesh, const StepGradient& step);
// Collective over nothing: every rank has read the same checkpoint. Throws DataError when it holds another
// number of streams.
void restore_streams(const NamedTensors& tensors, int64_t position, const RunConfig& config,
                     const LanguageModel& model, StepGradient& step);

}  // namespace fwl
