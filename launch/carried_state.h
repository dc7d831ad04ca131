// What train.stream carries, between the ranks that hold it and a checkpoint: one set of named tensors over
// all streams (first dim: the stream), independent of the layout.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "checkpoints/checkpoint.h"
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

// The same for a checkpoint, without gathering: adds "carried/NAME" of this rank's streams, which begin at
// `first_stream` of `streams`, to what the rank writes.
void add_stream_blocks(const StreamState& state, int64_t first_stream, int64_t streams,
                       std::vector<SliceBlock>* blocks);
// Streams [first, first + count) of a checkpoint, from any layout. `device` and `compute` as above. Throws
// DataError.
StreamState read_streams(CheckpointReader& reader, int64_t first, int64_t count, at::Device device,
                         at::ScalarType compute);

}  // namespace fwl
