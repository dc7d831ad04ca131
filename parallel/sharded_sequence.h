// Sequences cut across the ranks of a mesh's sequence axis: rank r of R computes positions [r L, (r + 1) L).
// Exact: loss and gradients are those of one rank, up to rounding. With Stream::kContinued each forward goes
// on where the one before ended (fast weights' state, and attention within the window), without gradient.
#pragma once

#include <string>

#include "core/model/config.h"
#include "core/model/sequence_view.h"
#include "parallel/communicator.h"
#include "parallel/sharded_attention.h"
#include "parallel/state_exchange.h"

namespace fwl {

// How the axis exchanges, as configured.
struct SequenceExchange {
  std::string attention = "auto";          // auto, all_to_all, all_gather, halo
  std::string state = "auto";              // auto, all_gather, all_to_all
  at::ScalarType state_wire = at::kFloat;  // dtype of states on their way
};

enum class Stream {
  kNone,
  kContinued,
  kStateContinued  // the fast weights' state goes on; attention stays within the forward
};

class ShardedSequence final : public SequenceView {
 public:
  // `length`: positions of this rank. The group (on the model's device) outlives the object and every
  // backward. Throws ConfigError for a combination that cannot work.
  ShardedSequence(Communicator& group, const ModelConfig& model, int64_t length,
                  const SequenceExchange& exchange, Stream stream);

  int64_t first_position() const override { return position_ + group_.rank() * length_; }
  Tensor attend(int64_t layer, const Tensor& q_bhle, const Tensor& k_bhle, const Tensor& v_bhle,
                int64_t window) override;
  StateExchange* exchange() override { return states_.get(); }
  FastWeightState inbound_state() const override;
  bool carries_state() const override { return stream_ != Stream::kNone; }
  // Collective over the group unless Stream::kNone: the last rank's state is on its way to the first.
  void advance(int64_t length, const FastWeightState& outbound) override;

  // Collective over the group (waits for the state). Complete on the group's first rank; elsewhere only the
  // position counts.
  StreamState stream_state() const override;
  // `state` is complete on every rank (each takes what its positions reach).
  void set_stream_state(const StreamState& state) override;

 private:
  bool is_first() const { return group_.rank() == 0; }
  bool is_last() const { return group_.rank() == group_.size() - 1; }
  void arrive() const;

  Communicator& group_;
  int64_t length_, window_, position_ = 0;
  AttentionAlgorithm attention_;
  Stream stream_;
  std::unique_ptr<StateExchange> states_;
  std::vector<AttentionMemory> memory_;  // this rank's reach
  // Before the next sequence, on the first rank; the transfer may still be under way.
  mutable FastWeightState fast_;
  mutable TransferPtr arriving_;
};

}  // namespace fwl
