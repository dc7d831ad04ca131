// Evaluation of a model on held-out documents, mode by mode over the same tokens (modes.h), in the windows of
// a ReadingPlan. Every token but the document start is scored exactly once, before anything learns from it.
//
// Ranks share the plan's units; each computes its own with the whole model, and the tokens' losses are then
// put together. A unit's computation does not depend on the number of ranks, and sums are taken over the
// whole list, so the results do not either (bit for bit, as long as each rank has as many threads).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/adapt/dynamic_evaluation.h"
#include "launch/evaluation/reading_plan.h"
#include "launch/evaluation/result.h"
#include "parallel/communicator.h"

namespace fwl {

struct EvalOptions {
  ReadingOptions reading;    // context 0: the model's
  int64_t batch = 8;         // windows, or documents with a state of their own, at once
  Carry carry;               // of the carried modes
  int64_t streams = 1;       // parts of the split that are read as streams, each from the start
  bool keep_tokens = false;  // fills EvalResult::scored
};

// How dynamic evaluation learns; for the modes that adapt.
struct DynamicSetup {
  DynamicEvaluationConfig config;
  Tensor mean_square;  // gradient statistics for the rms rule
};

class Evaluator {
 public:
  // All arguments outlive the object. Throws ConfigError for a stride above the context or a carry that is no
  // multiple of it, DataError when the split holds no token to score or does not fit the model's vocabulary.
  Evaluator(LanguageModel& model, const Split& split, const EvalOptions& options, Communicator& group);

  // Collective over the group. kFastUntrained runs as kFast: give the model that fast weights were added to.
  // Throws ConfigError when the model has no fast weights that the mode needs.
  EvalResult run(EvalMode mode, const DynamicSetup& dynamic = {});
  // Which parts run on the fused GPU kernels, and why the others do not; empty on a CPU.
  std::string describe_kernels() const;
  // The same in turns with other modes' evaluators (turns.h): begin(), read_share() of every share, finish().
  // Each is collective over the group.
  void begin(EvalMode mode, const DynamicSetup& dynamic = {});
  void read_share(int share, int shares);
  // The whole once more, for its time alone.
  void read_again();
  EvalResult finish();
  // Seconds that this rank has read for so far.
  double seconds() const;
  // What a mode has whose rate diverges before it could be run: every loss is NaN.
  EvalResult no_result(EvalMode mode) const;
  const ReadingPlan& plan() const { return plan_; }
  const EvalOptions& options() const { return options_; }
  // The mode's streams have to be read from begin to end, by one rank each.
  bool waits_for_streams(EvalMode mode, const DynamicSetup& dynamic) const;

 private:
  // Losses of the scored labels of rows [B, count], where they belong; kept on the device until the end.
  struct Scores {
    std::vector<Window> windows;
    Tensor nats_bt;
  };
  enum class Labels { kAll, kScored };  // of a window with an overlap
  static int64_t longest_of(const std::vector<Window>& windows);
  int64_t suitable_length(int64_t longest) const;
  TokenBatch batch_of(const std::vector<Window>& windows, Labels labels, int64_t length) const;
  int64_t long_window() const;
  std::vector<ReadingUnit> units_of(EvalMode mode, const DynamicSetup& dynamic) const;
  bool reads_streams(const ModeTraits& mode, const DynamicSetup& dynamic) const;
  bool reads_pieces(const ModeTraits& mode) const;
  bool forgets_between_windows() const { return model_.config().window == 0; }
  std::unique_ptr<SequenceView> make_view(const ReadingUnit& unit, const ModeTraits& mode) const;
  void read_overlap(TokenBatch overlap, const ModeTraits& mode, SequenceView& view) const;
  void warm_up(EvalMode mode, const DynamicSetup& dynamic, const std::vector<ReadingUnit>& units);
  void warm_up_shapes(const ModeTraits& mode, const std::vector<ReadingUnit>& units);
  void keep(const std::vector<Window>& windows, const Tensor& nats_bt);
  void score_side_by_side(const ReadingUnit& unit, const ModeTraits& mode);
  void score_adapting(const ReadingUnit& unit, const ModeTraits& mode, DynamicEvaluator& dynamic,
                      const DynamicSetup& setup);
  enum class Keep { kScores, kTimes };
  void read_turn(int share, int shares, Keep keep);
  void take_scores();
  std::vector<double> gather();
  std::vector<ModeTurn> turns_of_all_ranks();
  void fill_documents(EvalResult& result, const std::vector<double>& nats) const;
  ScoredTokens tokens_of(const std::vector<double>& nats) const;

  LanguageModel& model_;
  const Split& split_;
  EvalOptions options_;
  Communicator& group_;
  ReadingPlan plan_;

  // Of the mode that is running.
  EvalMode mode_ = EvalMode::kSlow;
  DynamicSetup dynamic_;
  std::vector<ReadingUnit> units_;
  std::vector<size_t> own_units_;
  std::vector<Scores> scores_;   // of the turn
  std::vector<double> nats_;     // by slot; 0 for what other ranks read
  std::vector<ModeTurn> turns_;  // this rank's
  size_t first_turns_ = 0;       // those of the first reading
  int64_t peak_memory_bytes_ = 0;
  LanguageModel::InnerUse inner_use_;
};

// Throws ConfigError when the mode would read beyond the positions that the model has learned. `text` says
// whose documents the plan reads: " of 'data/valid'".
void check_positions(const ModelConfig& model, const ReadingPlan& plan, EvalMode mode, const Carry& carry,
                     const DynamicEvaluationConfig& dynamic, const std::string& text = "");

// Squared-gradient statistics for the rms rule from `batches` batches of training windows, of the loss of
// `pass`.
Tensor gradient_mean_square(LanguageModel& model, const Split& train, int64_t batches, int64_t batch_rows,
                            uint64_t seed, Pass pass);

}  // namespace fwl
