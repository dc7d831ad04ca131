#include "launch/evaluation/idle_options.h"

#include <algorithm>

#include "core/base/error.h"

namespace fwl {
namespace {

// Options that have no effect when `holds`.
struct Idle {
  bool holds;
  std::string reason;
  std::vector<std::string> options;
};

std::vector<Idle> idle_groups(const ComparisonOptions& o, const std::vector<EvalMode>& modes,
                              const std::vector<Carry>& carries) {
  const auto any = [&](const auto& is) { return std::any_of(modes.begin(), modes.end(), is); };
  const bool adapts = any([](EvalMode mode) { return traits_of(mode).adapts; });
  const bool fast = any([](EvalMode mode) { return traits_of(mode).pass == Pass::kFast; });
  const bool keeps =
      any([](EvalMode mode) { return traits_of(mode).carries && traits_of(mode).pass == Pass::kFast; });
  const bool untrained = any([](EvalMode mode) { return mode == EvalMode::kFastUntrained; });
  const bool rms = adapts && o.dynamic_rule.value_or("rms") == "rms";
  const bool streams = (adapts && o.dynamic.reset == "stream") ||
                       (keeps && std::any_of(carries.begin(), carries.end(), [](const Carry& carry) {
                          return carry.scope == Carry::Scope::kStream;
                        }));
  const bool all_given = o.dynamic_rule && o.dynamic_learning_rate && o.dynamic_decay;
  const bool searches_step_size = untrained && !o.untrained_step_size;
  const bool tunes = searches_step_size || (adapts && !all_given);
  const bool searches =
      searches_step_size || (adapts && (o.tune_data.empty() ? !o.dynamic_learning_rate : !all_given));
  return {
      {!adapts,
       "no mode of this evaluation is dynamic evaluation",
       {"--dynamic-rule", "--dynamic-learning-rate", "--dynamic-decay", "--dynamic-segment",
        "--dynamic-reset"}},
      {!rms,
       "no mode of this evaluation divides by gradient statistics (dynamic evaluation, rule rms)",
       {"--dynamic-epsilon", "--dynamic-statistics"}},
      {!rms && o.count_tokens == 0,
       "no mode of this evaluation reads training text, and none is counted (--count-tokens 0)",
       {"--train-data"}},
      {!tunes, "nothing is left to be searched for these modes", {"--tune"}},
      {!searches, "nothing is searched for these modes", {"--tune-documents"}},
      {!untrained, "fast-untrained is none of the modes", {"--untrained-step-size"}},
      {!keeps, "no mode of this evaluation carries fast weights", {"--carry"}},
      {!streams, "every mode of this evaluation starts anew at each document", {"--streams"}},
      {o.eval.reading.max_documents == 0, "all documents are read (no --max-documents)", {"--spread"}},
      {!fast, "no mode of this evaluation has fast weights", {"--inner-threshold", "--inner-logits"}},
  };
}

}  // namespace

std::vector<std::string> idle_options(const ComparisonOptions& options, const std::vector<EvalMode>& modes,
                                      const std::vector<Carry>& carries) {
  std::vector<std::string> sentences;
  for (const Idle& idle : idle_groups(options, modes, carries))
    for (const std::string& option : idle.options)
      if (idle.holds && std::count(options.given.begin(), options.given.end(), option) > 0)
        sentences.push_back(cat(option, " has no effect: ", idle.reason, "."));
  return sentences;
}

}  // namespace fwl
