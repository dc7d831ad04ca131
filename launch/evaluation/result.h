// What an evaluation of one mode found, and how it is shown: the only place that turns it into JSON and into
// rows of a table.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/model/flops.h"
#include "launch/evaluation/intervals.h"
#include "launch/evaluation/modes.h"
#include "launch/evaluation/scored_tokens.h"

namespace fwl {

// A part of a mode's reading that stood between those of the other modes.
struct ModeTurn {
  double rank_seconds = 0, tokens = 0;  // of all ranks together
};

// How much time a mode takes, relative to the static one, as their turns beside each other show it.
struct RelativeTime {
  double ratio = 0;           // median over the turns
  double spread = 0;          // over the turns (spread_of); NaN where there is one turn alone
  bool is_disturbed = false;  // less time than its share of the FLOPs needs
};

struct EvalResult {
  std::string mode;
  // Of each document, in reading order; sums of float64 in token order, the same on any number of ranks.
  std::vector<double> nats, tokens, bytes, words;  // words: empty unless they were counted
  ScoredTokens scored;          // empty on other ranks than the first, and unless asked for
  double seconds = 0;           // of the slowest rank
  double rank_seconds = 0;      // of all ranks together
  std::vector<ModeTurn> turns;  // of the same shares of the text for every mode, where all have as many
  double flops = 0;
  int64_t peak_memory_bytes = 0;  // the largest of all ranks
  nlohmann::json inner;           // inner threshold and what was below it; null: exact
  nlohmann::json breakdowns;      // of `scored` (breakdown.h); null: none
  nlohmann::json settings;        // what this mode was run with (rates, step sizes); null: nothing of its own

  double nats_per_token() const;
  double perplexity() const;
  double bits_per_byte() const;
  double word_perplexity() const;
  double token_count() const;
  double tokens_per_s() const { return token_count() / seconds; }
  bool is_finite() const;  // the loss of every document
};

RelativeTime relative_time(const EvalResult& result, const EvalResult& reference);
// What makes the results' times no measure of speed, in words; empty when nothing does. Modes that read the
// same windows with the same FLOPs must take the same time, and none takes less than its share of the FLOPs.
std::vector<std::string> speed_problems(const std::vector<EvalResult>& results, const EvalResult* reference);

// `reference` is the static result that the others are compared with, over the same documents; null: none.
// Numbers that are not finite are null, and "finite" says so.
nlohmann::json to_json(const EvalResult& result, const EvalResult* reference);
// For the terminal, with a line per result.
std::string table_of(const std::vector<EvalResult>& results, const EvalResult* reference);

}  // namespace fwl
