// Device memory of one rank in a training step, by what it is for, from config and layout alone. As
// LibTorch's allocator counts its peak; what CUDA and NCCL take for themselves is `communication` and
// kReservedBytes.
#pragma once

#include "launch/run_config.h"

namespace fwl {

// Number of the model's parameters; tests hold it against the model. `vocab_size` must be set.
int64_t count_parameters(const ModelConfig& config);

// Bytes.
struct MemoryPlan {
  double weights = 0;        // and their copies in the compute dtype
  double gradients = 0;      //
  double moments = 0;        // of AdamW; this rank's share with parallel.shard_optimizer
  double activations = 0;    // kept for the backward of one micro-batch, body and layer
  double head = 0;           // a block of logits, the unembedding's gradient, kept residuals
  double chunk_states = 0;   // fast-weight states between chunks
  double communication = 0;  // what other ranks send, NCCL's buffers

  double total() const {
    return weights + gradients + moments + activations + head + chunk_states + communication;
  }
};

// CUDA's context, the allocator's holes.
constexpr double kReservedBytes = 2e9;

// `micro_rows`: sequences of one micro-batch on one rank; each rank has context / shape.sequence positions.
MemoryPlan plan_memory(const RunConfig& config, const MeshShape& shape, int64_t micro_rows);

}  // namespace fwl
