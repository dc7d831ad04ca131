// How large the fast weights' states are after the windows of a step: for the log. Asking for a state that
// nobody carries on costs one product a fast tensor, so only the steps that are logged do; nothing that is
// trained depends on it.
#pragma once

#include <array>
#include <string>
#include <utility>
#include <vector>

#include "core/model/language_model.h"
#include "parallel/communicator.h"

namespace fwl {

// Means over all sequences (streams) of a step, by fast tensor ("dense1", "dense2", "norm").
struct MeanStateNorms {
  std::vector<std::pair<std::string, double>> state;  // Frobenius norm of the state
  std::vector<std::pair<std::string, double>>
      fast_to_slow;  // of step size times state, over the slow weights'
};

class StateNorms {
 public:
  // `model` outlives the object. The slow weights are read as the forward reads them.
  explicit StateNorms(const LanguageModel& model) : model_(model) {}
  // The states of some sequences (first dim) after their last position. Waits for nothing.
  void add(const FastWeightState& state);
  // Collective over the group. Waits for the device.
  MeanStateNorms mean(Communicator& group) const;

 private:
  struct Sum {
    Tensor state, change;  // [] each; undefined: no sequence yet
    int64_t sequences = 0;
  };
  const LanguageModel& model_;
  std::array<Sum, 3> sums_;
};

// A view whose outbound states are also added to `norms`. `last`: this rank has the sequences' last
// positions.
class WatchedSequence final : public SequenceView {
 public:
  enum class Shard { kLast, kEarlier };
  // All arguments outlive the object.
  WatchedSequence(SequenceView& view, StateNorms& norms, Shard shard)
      : view_(view), norms_(norms), shard_(shard) {}
  int64_t first_position() const override { return view_.first_position(); }
  Tensor attend(int64_t layer, const Tensor& q_bhte, const Tensor& k_bhte, const Tensor& v_bhte,
                int64_t window) override {
    return view_.attend(layer, q_bhte, k_bhte, v_bhte, window);
  }
  StateExchange* exchange() override { return view_.exchange(); }
  FastWeightState inbound_state() const override { return view_.inbound_state(); }
  bool is_whole() const override { return view_.is_whole(); }
  bool carries_state() const override { return view_.carries_state() || shard_ == Shard::kLast; }
  void advance(int64_t length, const FastWeightState& outbound) override;
  StreamState stream_state() const override { return view_.stream_state(); }
  void set_stream_state(const StreamState& state) override { view_.set_stream_state(state); }

 private:
  SequenceView& view_;
  StateNorms& norms_;
  Shard shard_;
};

}  // namespace fwl
