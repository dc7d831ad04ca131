// One optimizer step's gradient on one rank of a mesh: the rows of its data rank, the positions of its
// sequence rank, in micro-batches. The same code trains, verifies and measures.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "core/model/language_model.h"
#include "launch/run_config.h"
#include "launch/state_norms.h"
#include "parallel/gradient_reducer.h"
#include "parallel/mesh.h"
#include "parallel/sharded_sequence.h"

namespace fwl {

// Which part of the global batch a rank computes.
struct BatchShare {
  int64_t first_row = 0, rows = 0;            // sequences
  int64_t first_position = 0, positions = 0;  // of each sequence
};
BatchShare batch_share(const RunConfig& config, const MeshShape& shape, int data_rank, int sequence_rank);

// Sums over this rank's tokens.
struct LossSums {
  double main = 0, slow = 0;
};

class StepGradient {
 public:
  // Rows [first_row, first_row + rows) of the global batch, at this rank's positions.
  using BatchSource = std::function<TokenBatch(int64_t first_row, int64_t rows)>;

  // All arguments outlive the object.
  StepGradient(LanguageModel& model, Mesh& mesh, const RunConfig& config);

  const BatchShare& share() const { return share_; }
  // Rows that accumulate() asks for at a time; fewer at a step's end.
  int64_t micro_rows() const { return micro_rows_; }
  // Collective over the world. Adds the gradients of this rank's share of a global batch with `tokens`
  // loss-weighted tokens to the model's gradients, then sums them over all ranks. With train.stream each
  // call goes on where the one before ended. Returns this rank's loss sums ([2]: main, slow; float64), on the
  // device, which may still be at work.
  Tensor accumulate(const BatchSource& source, double tokens);
  // Every accumulate() adds the states after its windows to `norms`; null: none from now on.
  void watch_states(StateNorms* norms) { norms_ = norms; }

  // Collective over the mesh's sequence axis. What train.stream carries, for this rank's rows: complete on
  // the first rank of a sequence. Tensors' first dim is the row.
  StreamState stream_state() const;
  // `state` has all rows of this data rank, on every rank.
  void set_stream_state(const StreamState& state);
  // How sequences are exchanged, in words; empty on a mesh without a sequence axis.
  std::string describe_exchange() const;
  // Which parts run on the fused GPU kernels, and why the others do not; empty on a CPU.
  std::string describe_kernels() const;

 private:
  std::unique_ptr<SequenceView> make_view() const;
  TrainingLoss loss_of(const TokenBatch& batch, double tokens, SequenceView& view);

  LanguageModel& model_;
  Mesh& mesh_;
  const RunConfig& config_;
  BatchShare share_;
  int64_t micro_rows_;
  GradientReducer reducer_;
  std::vector<std::unique_ptr<SequenceView>> views_;  // one per micro-batch
  StateNorms* norms_ = nullptr;
};

}  // namespace fwl
