// Evaluation results (`fwl eval --json`) as rows of the report.
#pragma once

#include <limits>
#include <map>
#include <string>
#include <vector>

#include "launch/report/page.h"

namespace fwl {

// Tokens whose quantity lies in [low, high], and the sum of their losses (launch/evaluation/breakdown.h).
struct LossBin {
  double low = 0, high = 0;
  double tokens = 0;
  double nats = 0;
  double nats_per_token() const { return nats / tokens; }
};

// One mode of one evaluated model. Quantities that the evaluation did not write are NaN.
struct EvalRow {
  std::string label;
  std::string mode;
  double nats_per_token = 0;
  double perplexity = 0;
  double bits_per_byte = 0;
  double tokens = 0;
  double bytes = std::numeric_limits<double>::quiet_NaN();
  double tokens_per_s = 0;
  double relative_time = 0;  // to the static pass of the same model, as the evaluation measured it
  double peak_memory_bytes = 0;
  double change_percent = 0;    // of the loss against the baseline row; negative is better. See loss_unit
  double time_to_baseline = 0;  // per token (per byte: see loss_unit), relative to the baseline row
  double relative_flops = std::numeric_limits<double>::quiet_NaN();
  double word_perplexity = std::numeric_limits<double>::quiet_NaN();
  // 95 % intervals over documents. That of the change is known where the mode was paired with the baseline's
  // static pass: in the baseline's own file, or in another one whose `--static` it is.
  double nats_low = std::numeric_limits<double>::quiet_NaN(), nats_high = nats_low;
  double change_low = nats_low, change_high = nats_low;
  std::string file = {};
  double own_change_low = nats_low, own_change_high = nats_low;  // against the file's own static mode
  double static_nats_per_token = nats_low;                       // of that mode
  std::map<std::string, std::vector<LossBin>> breakdowns = {};   // by "position" and others; may be empty
  std::string tokenizer = {}, text = {};  // "byte 0123456789abcdef", a hash of the text; empty: not recorded
  std::string machine = {};               // host, device and ranks
  double seconds_per_token = nats_low, flops_per_token = nats_low;  // of one rank
  double relative_time_spread = nats_low;                           // of relative_time
  double time_spread = nats_low;                                    // of time_to_baseline
  bool time_is_apart = false;  // from two processes, not in turns: what else ran may have differed
  bool is_disturbed = false;   // less time than its share of the FLOPs needs
  bool is_finite() const;
};

// Reads "LABEL=FILE.json:MODE". Throws DataError for a missing or malformed file, ConfigError for a malformed
// argument and for a mode that the file does not hold.
EvalRow read_eval_row(const std::string& argument);
// Reads all modes of FILE.json (or LABEL=FILE.json), static first; rows are called "LABEL, MODE", the label
// is the file's name unless given.
std::vector<EvalRow> read_eval_rows(const std::string& argument);
// Fills change_percent, its interval, time_to_baseline and what is known of it, of all rows; the first is the
// baseline. Tokens of several tokenizers do not compare: the change is then that of bits per byte.
void compare_with_baseline(std::vector<EvalRow>& rows);
bool has_several_tokenizers(const std::vector<EvalRow>& rows);
// Throws DataError that names the tokenizers when there are several and a row has no bits per byte: losses
// per token alone do not compare.
void require_comparable(const std::vector<EvalRow>& rows);
// "nats per token" or "bits per byte", and "token" or "byte": what rows are compared by.
std::string loss_unit(const std::vector<EvalRow>& rows);
std::string time_unit(const std::vector<EvalRow>& rows);
// What to say of labels ("rows", "runs") and their tokenizers: that there are several, and `consequence`;
// that some are not known; nothing where all have one.
using LabelledTokenizers = std::vector<std::pair<std::string, std::string>>;
std::string tokenizer_caution(const std::string& what, const LabelledTokenizers& tokenizers,
                              const std::string& consequence);
// What rows are compared by: nats per token, or bits per byte where there are several tokenizers; NaN where
// not finite.
double loss_of(const EvalRow& row, const std::vector<EvalRow>& rows);
// The row of least loss: the first where none is finite.
const EvalRow& best_of(const std::vector<EvalRow>& rows);
// What a reader must know before comparing the rows, in sentences. Empty: nothing.
std::vector<std::string> cautions_of(const std::vector<EvalRow>& rows);

TextTable evaluation_table(const std::vector<EvalRow>& rows);

}  // namespace fwl
