// `fwl eval`: one model (and a control to compare it with) in several modes over the same held-out tokens,
// with what has to be found on a validation split first.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "launch/evaluation/evaluator.h"
#include "launch/load_model.h"

namespace fwl {

struct ComparisonOptions {
  ModelSource model;
  std::string static_checkpoint;  // its slow pass is the reference; empty: the model's own
  std::string data;               // split to score
  std::vector<EvalMode> modes;  // empty: slow, fast (with fast weights), dynamic (where its rate can be had)
  EvalOptions eval;             // its carry: see carries
  std::vector<Carry> carries;   // each carried mode runs with each; empty: whole documents
  bool words = false;
  int64_t count_tokens = 100'000'000;  // of the training split, for losses by frequency; 0: none

  DynamicEvaluationConfig dynamic;
  // What --tune searches unless it is given. Without --tune, the rate alone is searched.
  std::optional<std::string> dynamic_rule;
  std::optional<double> dynamic_learning_rate, dynamic_decay;
  std::optional<double> untrained_step_size;  // times the model's width
  std::string tune_data, train_data;          // empty: `valid` and `train` beside the data
  int64_t tune_documents = 0;

  std::vector<std::string> given;  // options of the command line ("--carry"): what has no effect is said
};

struct Comparison {
  std::vector<EvalResult> results;
  std::optional<size_t> reference;  // of the results
  std::vector<std::string> notices;
  // What is not finite, in words: weights of a checkpoint, modes whose rate diverges. Empty: nothing.
  std::vector<std::string> failures;
  nlohmann::json about;  // checkpoint, data, options

  const EvalResult* static_result() const { return reference ? &results[*reference] : nullptr; }
};

// The result's name: the mode's; of carried modes followed by how far ("carried-2048",
// "carried-stream-2048"), except for whole documents, and for a whole stream when it is the only one.
std::string result_name(EvalMode mode, const Carry& carry, bool is_only_carry);

// Collective over the group of all ranks. Throws ConfigError, DataError, all before any weights are read.
// Results that are not finite are no exception: see `failures`. Breakdowns are on rank 0.
Comparison compare(const ComparisonOptions& options, Communicator& group);
nlohmann::json to_json(const Comparison& comparison);

}  // namespace fwl
