#include "launch/report/evaluation.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <limits>
#include <set>
#include <tuple>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/json.h"
#include "launch/evaluation/speed.h"
#include "launch/report/reading.h"

namespace fwl {
namespace {

using nlohmann::json;

constexpr std::array<const char*, 9> kModeOrder = {"static",  "slow",         "slow-carried",
                                                   "fast",    "carried",      "fast-untrained",
                                                   "dynamic", "fast-dynamic", "carried-dynamic"};

json read_evaluation(const std::string& path) {
  json file = parse_json(read_file(path, "evaluation result"));
  require<DataError>(
      file.is_object() && file.contains("modes") && file["modes"].is_object() && !file["modes"].empty(), path,
      " is no result of `fwl eval --json` (it needs an object 'modes'). Evaluate again, or "
      "name another file.");
  for (const auto& [name, values] : file["modes"].items()) {
    require<DataError>(values.is_object(), path, ": mode '", name,
                       "' is no JSON object (it should hold nats_per_token and others). Evaluate again.");
    require<DataError>(
        values.contains("nats_per_token") || !values.contains("tokens_per_s"), path, ": mode '", name,
        "' has a speed but no loss (it is a result of `fwl bench eval`, no evaluation of a text). Name a "
        "result of `fwl eval --json`.");
  }
  return file;
}

std::string text_of(const json& file, const char* key) {
  const auto found = file.find(key);
  return found != file.end() && found->is_string() ? found->get<std::string>() : "";
}

std::string tokenizer_of(const json& file) {
  const auto found = file.find("tokenizer");
  if (found == file.end() || !found->is_object()) return "";
  return text_of(*found, "kind") + " " + text_of(*found, "hash");
}

// Seconds a token of the mode that relative times are relative to.
double static_seconds_per_token(const json& file, const std::string& where) {
  const std::string name = text_of(file, "static");
  if (!file["modes"].contains(name)) return std::numeric_limits<double>::quiet_NaN();
  const json& mode = file["modes"][name];
  return optional_number(mode, "rank_seconds", where) / optional_number(mode, "tokens", where);
}

// What rows share of the file that they come from.
void add_file(EvalRow& row, const json& file) {
  const double in_turns = row.relative_time * static_seconds_per_token(file, row.file);
  if (std::isfinite(in_turns)) row.seconds_per_token = in_turns;
  row.tokenizer = tokenizer_of(file);
  row.text = text_of(file, "text_hash");
  const auto ranks = file.find("ranks");
  row.machine = cat(text_of(file, "host"), " ", text_of(file, "device"), " ",
                    ranks != file.end() && ranks->is_number_integer() ? ranks->get<int64_t>() : 1);
}

// [low, high] under `key`; NaN where there is none.
void read_interval(const json& object, const std::string& key, const std::string& where, double& low,
                   double& high) {
  const auto found = object.find(key);
  if (found == object.end() || found->is_null()) return;
  require<DataError>(
      found->is_array() && found->size() == 2 && (*found)[0].is_number() && (*found)[1].is_number(), where,
      " has ", found->dump(), " for '", key,
      "' (two numbers are needed). Evaluate again with this version of fwl.");
  low = (*found)[0];
  high = (*found)[1];
}

std::vector<LossBin> read_bins(const json& bins, const std::string& where) {
  require<DataError>(bins.is_array(), where,
                     " is no array of bins. Evaluate again with this version of fwl.");
  std::vector<LossBin> read;
  for (const json& bin : bins) {
    require<DataError>(bin.is_object(), where, " holds ", bin.dump(),
                       " (a bin is an object). Evaluate again.");
    read.push_back({required_number(bin, "low", where), required_number(bin, "high", where),
                    required_number(bin, "tokens", where), required_number(bin, "nats", where)});
    require<DataError>(read.back().tokens > 0 && read.back().low <= read.back().high, where, " holds ",
                       bin.dump(), " (a bin has tokens and low <= high). Evaluate again.");
  }
  std::sort(read.begin(), read.end(), [](const LossBin& a, const LossBin& b) { return a.low < b.low; });
  return read;
}

EvalRow read_row(const std::string& label, const std::string& mode, const json& values,
                 const std::string& path) {
  const std::string where = cat(path, ", mode '", mode, "',");
  EvalRow row{label, mode};
  row.file = path;
  row.nats_per_token = required_number(values, "nats_per_token", where);
  row.tokens = required_number(values, "tokens", where);
  row.bytes = optional_number(values, "bytes", where);
  row.perplexity = optional_number(values, "perplexity", where);
  row.bits_per_byte = optional_number(values, "bits_per_byte", where);
  row.tokens_per_s = optional_number(values, "tokens_per_s", where);
  row.relative_time = optional_number(values, "relative_time", where);
  row.relative_flops = optional_number(values, "relative_flops", where);
  row.word_perplexity = optional_number(values, "word_perplexity", where);
  row.peak_memory_bytes = optional_number(values, "peak_memory_bytes", where);
  row.relative_time_spread = optional_number(values, "relative_time_spread", where);
  row.flops_per_token = optional_number(values, "flops_per_token", where);
  const double rank_seconds = optional_number(values, "rank_seconds", where);
  row.seconds_per_token = std::isfinite(rank_seconds) ? rank_seconds / row.tokens : 1 / row.tokens_per_s;
  read_interval(values, "nats_per_token_interval", where, row.nats_low, row.nats_high);
  if (const auto own = values.find("difference_to_static"); own != values.end() && own->is_object()) {
    read_interval(*own, "percent_interval", where, row.own_change_low, row.own_change_high);
    row.static_nats_per_token = row.nats_per_token - optional_number(*own, "nats_per_token", where);
  }
  if (const auto found = values.find("breakdowns"); found != values.end() && found->is_object())
    for (const auto& [name, bins] : found->items())
      row.breakdowns[name] = read_bins(bins, cat(where, " breakdown '", name, "'"));
  return row;
}

// Where a mode stands: its kind, of a document or a stream, and how far its state is carried ("carried-2048",
// "carried-stream-2048"; the whole of it comes last).
std::tuple<size_t, bool, double> rank_of_mode(const std::string& mode) {
  size_t kind = kModeOrder.size(), length = 0;
  for (size_t i = 0; i < kModeOrder.size(); ++i) {
    const std::string name = kModeOrder[i];
    const bool is = mode == name || mode.rfind(name + "-", 0) == 0;
    if (is && name.size() > length) std::tie(kind, length) = std::pair(i, name.size());
  }
  const std::string limit = mode.substr(mode.rfind('-') + 1);
  const bool counts = !limit.empty() && limit.find_first_not_of("0123456789") == std::string::npos;
  return {kind, mode.find("-stream") != std::string::npos,
          counts ? std::stod(limit) : std::numeric_limits<double>::infinity()};
}

// "LABEL, MODE". The row of --static is of another model than the file's: it has the name of that one's run.
std::string row_label(const std::string& label, const std::string& mode, const json& values) {
  if (mode != "static") return cat(label, ", ", mode);
  const auto settings = values.find("settings");
  const std::string checkpoint =
      settings != values.end() && settings->is_object() ? text_of(*settings, "checkpoint") : "";
  const size_t inside = checkpoint.find("/checkpoints/");
  const std::string run = name_of_path(checkpoint.substr(0, inside));
  return run.empty() ? cat("control of ", label, ", static") : cat(run, ", static");
}

// "1.65x ± 0.05", with what is known of how it was measured.
std::string time_text(const EvalRow& row) {
  if (!std::isfinite(row.time_to_baseline)) return fixed(row.time_to_baseline, 2);
  std::string text = fixed(row.time_to_baseline, 2) + "x";
  if (std::isfinite(row.time_spread)) text += " \u00b1 " + fixed(row.time_spread, 2);
  if (row.time_is_apart) text += " ~";
  if (row.is_disturbed) text += " !";
  return text;
}

std::string with_unit(const std::string& text, double value, const std::string& unit) {
  return std::isfinite(value) ? text + unit : text;
}

std::string interval_text(const EvalRow& row) {
  if (!std::isfinite(row.change_low)) return "\u2013";
  return cat(signed_percent(row.change_low), " to ", signed_percent(row.change_high));
}

bool any(const std::vector<EvalRow>& rows, double EvalRow::*member) {
  return std::any_of(rows.begin(), rows.end(),
                     [&](const EvalRow& row) { return std::isfinite(row.*member); });
}

}  // namespace

EvalRow read_eval_row(const std::string& argument) {
  const auto [label, file_and_mode] = split_label(argument);
  const size_t colon = file_and_mode.rfind(':');
  require<ConfigError>(
      !label.empty() && colon != std::string::npos && colon > 0 && colon + 1 < file_and_mode.size(), "'",
      argument, "' is no evaluation row (label, file and mode are needed). Write LABEL=FILE.json:MODE.");
  const std::string path = file_and_mode.substr(0, colon), mode = file_and_mode.substr(colon + 1);
  const json file = read_evaluation(path), modes = file["modes"];
  std::string there;
  for (const auto& [name, values] : modes.items()) there += (there.empty() ? "" : ", ") + name;
  require<ConfigError>(modes.contains(mode), path, " holds no mode '", mode,
                       "' (a row shows one mode). Choose one of: ", there,
                       "; or evaluate again with --modes ", mode, ".");
  EvalRow row = read_row(label, mode, modes[mode], path);
  add_file(row, file);
  return row;
}

std::vector<EvalRow> read_eval_rows(const std::string& argument) {
  const auto [label, path] = split_label(argument);
  const json file = read_evaluation(path);
  std::vector<EvalRow> rows;
  for (const auto& [mode, values] : file["modes"].items()) {
    rows.push_back(
        read_row(row_label(label.empty() ? name_of_path(path) : label, mode, values), mode, values, path));
    add_file(rows.back(), file);
  }
  std::stable_sort(rows.begin(), rows.end(), [](const EvalRow& a, const EvalRow& b) {
    return rank_of_mode(a.mode) < rank_of_mode(b.mode);
  });
  return rows;
}

namespace {

// Whether the static pass that `row` was paired with is the baseline's: the same loss of as many tokens.
bool is_paired_with(const EvalRow& row, const EvalRow& base) {
  const bool is_static = base.mode == "slow" || base.mode == "static";
  return is_static && row.tokens == base.tokens &&
         std::abs(row.static_nats_per_token - base.nats_per_token) <= 1e-9 * base.nats_per_token;
}

}  // namespace

namespace {

double seconds_per_byte(const EvalRow& row) {
  return row.tokens / row.tokens_per_s / row.bytes;
}

// In turns with the baseline's own static pass, where the file has that; else by the speeds of two processes.
// Only figures of one process say that something else was in the way.
void compare_times(EvalRow& row, const EvalRow& base, bool per_byte) {
  if (row.file == base.file && std::isfinite(row.relative_time / base.relative_time)) {
    row.time_to_baseline = row.relative_time / base.relative_time;
    row.time_spread = row.relative_time_spread / base.relative_time;
  } else if (is_paired_with(row, base) && std::isfinite(row.relative_time)) {
    row.time_to_baseline = row.relative_time;
    row.time_spread = row.relative_time_spread;
  } else {
    row.time_to_baseline =
        per_byte ? seconds_per_byte(row) / seconds_per_byte(base) : base.tokens_per_s / row.tokens_per_s;
    row.time_is_apart = row.file != base.file && std::isfinite(row.time_to_baseline);
  }
  row.is_disturbed = is_below_its_work(row.relative_time, row.relative_time_spread, row.relative_flops) ||
                     (!row.time_is_apart && is_below_its_work(row.time_to_baseline, row.time_spread,
                                                              row.flops_per_token / base.flops_per_token));
}

std::string list_of_labels(const std::vector<EvalRow>& rows,
                           const std::function<bool(const EvalRow&)>& wanted) {
  std::string list;
  for (const EvalRow& row : rows)
    if (wanted(row)) list += (list.empty() ? "" : "; ") + row.label;
  return list;
}

LabelledTokenizers tokenizers_of(const std::vector<EvalRow>& rows) {
  LabelledTokenizers list;
  for (const EvalRow& row : rows) list.emplace_back(row.label, row.tokenizer);
  return list;
}

// "byte 0123 (a; b), sentencepiece 4567 (c)": which labels have which tokenizer.
std::string list_of(const LabelledTokenizers& tokenizers) {
  std::map<std::string, std::string> labels;
  for (const auto& [label, tokenizer] : tokenizers) {
    std::string& list = labels[tokenizer.empty() ? "not recorded" : tokenizer];
    list += (list.empty() ? "" : "; ") + label;
  }
  std::string list;
  for (const auto& [tokenizer, names] : labels)
    list += cat(list.empty() ? "" : ", ", tokenizer, " (", names, ")");
  return list;
}

std::string text_caution(const std::vector<EvalRow>& rows) {
  const bool several = has_several_tokenizers(rows);
  const auto is_as_long = [&](const EvalRow& row) {
    if (several && (std::isnan(row.bytes) || std::isnan(rows.front().bytes))) return true;  // not recorded
    return several ? row.bytes == rows.front().bytes : row.tokens == rows.front().tokens;
  };
  if (!std::all_of(rows.begin(), rows.end(), is_as_long))
    return cat("Caution: the rows were measured on different numbers of ", several ? "bytes" : "tokens",
               " and do not compare.");
  // Two tokenizers give one text two hashes.
  std::map<std::string, std::string> texts;
  for (const EvalRow& row : rows)
    if (!row.text.empty() && texts.emplace(row.tokenizer, row.text).first->second != row.text)
      return "Caution: the rows were measured on different texts and do not compare.";
  return "";
}

}  // namespace

bool EvalRow::is_finite() const {
  return std::isfinite(nats_per_token);
}

std::string tokenizer_caution(const std::string& what, const LabelledTokenizers& tokenizers,
                              const std::string& consequence) {
  std::set<std::string> all, known;
  for (const auto& [label, tokenizer] : tokenizers) {
    all.insert(tokenizer);
    if (!tokenizer.empty()) known.insert(tokenizer);
  }
  if (all.size() < 2) return "";
  if (known.size() < 2)
    return cat("Caution: ", what, " whose tokenizer is not known: ", list_of(tokenizers), ".");
  return cat("Caution: the ", what,
             " are of several tokenizers, whose losses per token do not compare: ", list_of(tokenizers), ". ",
             consequence);
}

bool has_several_tokenizers(const std::vector<EvalRow>& rows) {
  std::set<std::string> known;
  for (const EvalRow& row : rows)
    if (!row.tokenizer.empty()) known.insert(row.tokenizer);
  return known.size() > 1;
}

void require_comparable(const std::vector<EvalRow>& rows) {
  if (!has_several_tokenizers(rows)) return;
  for (const EvalRow& row : rows)
    require<DataError>(
        !row.is_finite() || std::isfinite(row.bits_per_byte), row.label,
        " has no bits per byte, and the rows are of several tokenizers, whose losses per token "
        "do not compare: ",
        list_of(tokenizers_of(rows)),
        ". Evaluate again with this version of fwl, or report on each by itself.");
}

std::string loss_unit(const std::vector<EvalRow>& rows) {
  return has_several_tokenizers(rows) ? "bits per byte" : "nats per token";
}

std::string time_unit(const std::vector<EvalRow>& rows) {
  return has_several_tokenizers(rows) ? "byte" : "token";
}

double loss_of(const EvalRow& row, const std::vector<EvalRow>& rows) {
  return has_several_tokenizers(rows) ? row.bits_per_byte : row.nats_per_token;
}

const EvalRow& best_of(const std::vector<EvalRow>& rows) {
  const EvalRow* best = &rows.front();
  for (const EvalRow& row : rows)
    if (loss_of(row, rows) < loss_of(*best, rows) || !std::isfinite(loss_of(*best, rows))) best = &row;
  return *best;
}

void compare_with_baseline(std::vector<EvalRow>& rows) {
  for (EvalRow& row : rows) {
    const EvalRow& base = rows.front();
    row.change_percent = 100 * (loss_of(row, rows) / loss_of(base, rows) - 1);
    compare_times(row, base, has_several_tokenizers(rows));
    if (&row == &base || !is_paired_with(row, base)) continue;
    row.change_low = row.own_change_low;
    row.change_high = row.own_change_high;
  }
}

std::vector<std::string> cautions_of(const std::vector<EvalRow>& rows) {
  std::vector<std::string> cautions;
  if (rows.empty()) return cautions;
  const auto add = [&](const std::string& text) {
    if (!text.empty()) cautions.push_back(text);
  };
  add(tokenizer_caution("rows", tokenizers_of(rows), "Change and time are those per byte."));
  add(text_caution(rows));
  const std::string broken = list_of_labels(rows, [](const EvalRow& row) { return !row.is_finite(); });
  if (!broken.empty()) add(cat("Caution: the loss of ", broken, " is not finite."));
  const std::string apart = list_of_labels(rows, [](const EvalRow& row) { return row.time_is_apart; });
  if (!apart.empty())
    add(cat("~ measured in another process than the baseline, not in turns with it: ", apart, "."));
  std::vector<SpeedFigure> figures;
  for (const EvalRow& row : rows)
    figures.push_back(
        {row.label, row.mode, row.seconds_per_token, row.flops_per_token, row.machine, row.is_disturbed});
  for (const std::string& problem : problems_of(figures)) add(problem);
  return cautions;
}

TextTable evaluation_table(const std::vector<EvalRow>& rows) {
  const bool words = any(rows, &EvalRow::word_perplexity), flops = any(rows, &EvalRow::relative_flops);
  const bool intervals = any(rows, &EvalRow::change_low);
  TextTable table{
      {"model and mode", "nats/token", has_several_tokenizers(rows) ? "change of bits/byte" : "change"}, {}};
  if (intervals) table.header.push_back("95 % interval");
  table.header.insert(table.header.end(), {"perplexity", "bits/byte"});
  if (words) table.header.push_back("per word");
  table.header.insert(table.header.end(), {"tokens/s", has_several_tokenizers(rows) ? "time/byte" : "time"});
  if (flops) table.header.push_back("FLOPs");
  table.header.push_back("peak memory");
  for (const EvalRow& row : rows) {
    const bool baseline = &row == &rows.front();
    std::vector<std::string> cells = {row.label,
                                      row.is_finite() ? fixed(row.nats_per_token, 4) : "not finite",
                                      baseline ? "baseline" : signed_percent(row.change_percent)};
    if (intervals) cells.push_back(interval_text(row));
    cells.push_back(fixed(row.perplexity, 2));
    cells.push_back(fixed(row.bits_per_byte, 4));
    if (words) cells.push_back(fixed(row.word_perplexity, 2));
    cells.push_back(short_number(row.tokens_per_s));
    cells.push_back(time_text(row));
    if (flops) cells.push_back(with_unit(fixed(row.relative_flops, 2), row.relative_flops, "x"));
    cells.push_back(with_unit(short_number(row.peak_memory_bytes), row.peak_memory_bytes, "B"));
    table.rows.push_back(cells);
  }
  if (rows.size() > 1) table.best = static_cast<size_t>(&best_of(rows) - rows.data());
  return table;
}

}  // namespace fwl
