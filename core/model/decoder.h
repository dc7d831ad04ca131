// Decoding: texts are read and continued token by token, several side by side, in memory that does not grow
// with their length (sliding-window attention; full attention keeps every key). Fast weights learn as the
// tokens become known: position t's gradient needs token t + 1, so the state takes it when that token is
// read.
//
// Equal to the batch forward to rounding. On the CPU every result is a function of its own sequence alone,
// bit for bit: neither the other sequences nor how a text is cut into calls matters.
//
// Shape suffixes: n input, d width, v vocabulary.
#pragma once

#include <map>
#include <optional>
#include <vector>

#include "core/fast_weight/step.h"
#include "core/kernels/row_products.h"
#include "core/model/language_model.h"

namespace fwl {

// One token of one sequence.
struct DecoderInput {
  int64_t sequence = 0;
  int64_t token = 0;
  bool learn = true;            // the state learns from this token as the label of the position before it
  bool predict = false;         // logits for the token after it are wanted
  bool document_start = false;  // the state is zero before it, where model.fast_weight.document_reset is set
};

class Decoder {
 public:
  // `model` outlives the decoder and does not change. Pass::kSlow: static weights, no state. Throws
  // ConfigError for kFast on a control.
  Decoder(const LanguageModel& model, Pass pass);

  // A new sequence, from nothing or from where another ended; returns its number.
  int64_t add_sequence();
  // `state`: one row, and no position pending (state() below). Throws ConfigError when it does not fit the
  // model.
  int64_t add_sequence(const StreamState& state);
  void drop_sequence(int64_t sequence);

  // Reads the tokens in order (a sequence may have several, and sequences may mix). Returns the logits of
  // those with `predict`, [P, v], accumulation type. Throws ConfigError beyond a model's learned positions.
  Tensor read(const std::vector<DecoderInput>& inputs);
  // The token after the last one that was read is known, but not read: the state learns from it (or passes
  // over it). Read it next, with any `learn`.
  void settle(int64_t sequence, int64_t next_token, bool learn = true);

  // After settle() or before the first token: all that goes on, as one row. Copies.
  StreamState state(int64_t sequence) const;
  int64_t position(int64_t sequence) const { return sequences_.at(sequence).position; }
  // Bytes of memories and states of all sequences.
  int64_t memory_bytes() const;

 private:
  struct Sequence {
    int64_t position = 0;
    std::vector<AttentionRing> rings;              // one per block of the body
    std::vector<FastWeightState> fast;             // by inner step, without batch dim
    std::vector<std::optional<PassRows>> pending;  // likewise: the last position, until its label is known
  };
  class Learning;

  int64_t steps() const { return static_cast<int64_t>(steps_.size()); }
  FastWeightState zero_state() const;  // of one step

  // The inputs of a block, and their tokens on the model's device.
  struct Block {
    const DecoderInput* inputs;
    int64_t count;
    Tensor token_n;
  };
  Tensor read_block(const DecoderInput* inputs, int64_t count);
  Tensor body(const Block& block);
  Tensor embed(const Block& block, const std::vector<int64_t>& positions) const;
  RotaryTable rotary_rows(const std::vector<int64_t>& positions, const at::TensorOptions& options) const;
  Tensor attend(const BlockIndex& block, size_t layer, const Tensor& normed_nd, const RotaryTable& rotary,
                const DecoderInput* inputs, const std::vector<int64_t>& positions);
  Tensor fast_pass(const Block& block, const PassRows& slow);
  Tensor slow_predictions(const DecoderInput* inputs, int64_t count, const PassRows& slow) const;
  int64_t remembered(int64_t position) const;
  void make_room(AttentionRing& ring, int64_t position) const;

  const LanguageModel& model_;
  Pass pass_;
  WeightView weights_;
  FastWeightWeights layer_;
  std::vector<FastWeightWeights> steps_;  // the layer as each inner step has it
  std::vector<HostDecays> decays_;        // likewise
  Tensor rotary_frequency_e_;             // of rotary positions, on the device, float64
  std::map<int64_t, Sequence> sequences_;
  int64_t next_sequence_ = 0;
};

}  // namespace fwl
