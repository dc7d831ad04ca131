// What this rank computes of each sequence of a batch, and how its positions reach the rest: earlier keys and
// values, and the fast weights learned before the first position. One object per group of sequences that are
// read side by side. Here: sequences that are whole, and sequences that go on from what was read before.
// parallel/sharded_sequence.h: sequences cut across ranks.
#pragma once

#include <vector>

#include "core/fast_weight/state.h"
#include "core/fast_weight/state_exchange.h"
#include "core/model/attention.h"

namespace fwl {

// What goes on from one forward to the next of the same streams. Without gradient.
struct StreamState {
  int64_t position = 0;                 // of the next token
  std::vector<AttentionMemory> layers;  // one per block of the body; empty: nothing is remembered
  FastWeightState fast;                 // undefined tensors: zero
};

// The state of sequences [first, first + count) of the batch alone. Copies.
StreamState rows_of(const StreamState& state, int64_t first, int64_t count);

class SequenceView {
 public:
  virtual ~SequenceView() = default;
  // Position of the first of this rank's tokens of the next forward.
  virtual int64_t first_position() const = 0;
  // Causal attention of this rank's queries in one block of the body. All [B, H, T, E] with T this rank's
  // positions; rotated by their positions.
  virtual Tensor attend(int64_t layer, const Tensor& q_bhte, const Tensor& k_bhte, const Tensor& v_bhte,
                        int64_t window) = 0;
  // Where the states of earlier shards come from; null: there are none.
  virtual StateExchange* exchange() { return nullptr; }
  // The state before the sequence; undefined tensors: zero.
  virtual FastWeightState inbound_state() const { return {}; }
  // Whether every forward holds its sequences from their first position to their last.
  virtual bool is_whole() const { return false; }
  // Whether advance() reads the outbound state.
  virtual bool carries_state() const { return false; }
  // Ends a forward over `length` positions of this rank. `outbound` is the state after them (detached).
  virtual void advance(int64_t length, const FastWeightState& outbound) = 0;
  // What goes on to the next forward; nothing for sequences that are whole.
  virtual StreamState stream_state() const { return {}; }
  virtual void set_stream_state(const StreamState&) {}
};

// Every forward is a whole sequence from position 0.
class WholeSequence final : public SequenceView {
 public:
  bool is_whole() const override { return true; }
  int64_t first_position() const override { return 0; }
  Tensor attend(int64_t, const Tensor& q_bhte, const Tensor& k_bhte, const Tensor& v_bhte,
                int64_t window) override {
    return causal_attention(q_bhte, k_bhte, v_bhte, window);
  }
  void advance(int64_t, const FastWeightState&) override {}
};

// What attention keeps of the text read so far when the body attends to everything.
enum class FullAttention {
  kRemembers,  // all of it: decoding
  kForgets     // nothing: each forward attends within itself, only the fast weights' state goes on
};

// What attention keeps with a sliding window.
enum class WindowMemory {
  kKept,      // keys and values within the window's reach
  kForgotten  // nothing: for sequences that may begin another text than the one before ended
};

// Each forward goes on where the one before ended: keys and values within reach of the window and the fast
// weights' state are kept, without gradient. A stream of any length in bounded memory, unless full attention
// remembers.
class ContinuedSequence final : public SequenceView {
 public:
  explicit ContinuedSequence(FullAttention full_attention = FullAttention::kRemembers,
                             WindowMemory window_memory = WindowMemory::kKept);
  int64_t first_position() const override { return state_.position; }
  Tensor attend(int64_t layer, const Tensor& q_bhte, const Tensor& k_bhte, const Tensor& v_bhte,
                int64_t window) override;
  FastWeightState inbound_state() const override { return state_.fast; }
  bool carries_state() const override { return true; }
  void advance(int64_t length, const FastWeightState& outbound) override;

  StreamState stream_state() const override { return state_; }
  void set_stream_state(const StreamState& state) override { state_ = state; }

 private:
  FullAttention full_attention_;
  WindowMemory window_memory_;
  StreamState state_;
};

}  // namespace fwl
