#include "launch/evaluation/result.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <numeric>

namespace fwl {
namespace {

using nlohmann::json;

double sum(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0);
}

json json_of(const std::optional<Interval>& interval) {
  return interval ? json::array({interval->low, interval->high}) : json();
}

std::optional<Interval> through(double (*function)(double), const std::optional<Interval>& interval) {
  if (!interval) return {};
  return Interval{function(interval->low), function(interval->high)};
}

double exponential(double x) {
  return std::exp(x);
}
double bits_of(double nats) {
  return nats / std::log(2.0);
}

// Documents in reading order, minus those of `reference`.
std::vector<double> difference(const EvalResult& result, const EvalResult& reference) {
  std::vector<double> difference = result.nats;
  for (size_t i = 0; i < difference.size(); ++i) difference[i] -= reference.nats[i];
  return difference;
}

json comparison(const EvalResult& result, const EvalResult& reference) {
  const std::vector<double> paired = difference(result, reference);
  const double nats = sum(paired) / result.token_count();
  return {{"nats_per_token", nats},
          {"nats_per_token_interval", json_of(bootstrap_interval(paired, result.tokens))},
          {"percent", 100 * nats / reference.nats_per_token()},
          {"percent_interval", json_of([&]() -> std::optional<Interval> {
             const auto ratio = bootstrap_interval(paired, reference.nats);
             if (!ratio) return {};
             return Interval{100 * ratio->low, 100 * ratio->high};
           }())}};
}

std::string format(const char* pattern, double value) {
  char text[64];
  std::snprintf(text, sizeof text, pattern, value);
  return text;
}

std::string column(const std::string& text, int width) {
  return std::string(static_cast<size_t>(std::max(0, width - static_cast<int>(text.size()))), ' ') + text;
}

std::string change_text(const EvalResult& r, const EvalResult& reference) {
  const json c = comparison(r, reference);
  std::string text = format("%+.4f", c["nats_per_token"].get<double>());
  const json& interval = c["nats_per_token_interval"];
  if (interval.is_array())
    text += format(" [%+.4f, ", interval[0].get<double>()) + format("%+.4f]", interval[1].get<double>());
  return text;
}

}  // namespace

double EvalResult::token_count() const {
  return sum(tokens);
}
double EvalResult::nats_per_token() const {
  return sum(nats) / token_count();
}
double EvalResult::perplexity() const {
  return std::exp(nats_per_token());
}
double EvalResult::bits_per_byte() const {
  return bits_of(sum(nats)) / sum(bytes);
}
double EvalResult::word_perplexity() const {
  return std::exp(sum(nats) / sum(words));
}

json to_json(const EvalResult& r, const EvalResult* reference) {
  const auto per_token = bootstrap_interval(r.nats, r.tokens);
  json j = {{"nats_per_token", r.nats_per_token()},
            {"nats_per_token_interval", json_of(per_token)},
            {"perplexity", r.perplexity()},
            {"perplexity_interval", json_of(through(exponential, per_token))},
            {"bits_per_byte", r.bits_per_byte()},
            {"bits_per_byte_interval", json_of(through(bits_of, bootstrap_interval(r.nats, r.bytes)))},
            {"tokens", static_cast<int64_t>(r.token_count())},
            {"documents", r.tokens.size()},
            {"bytes", static_cast<int64_t>(sum(r.bytes))},
            {"tokens_per_s", r.tokens_per_s()},
            {"seconds", r.seconds},
            {"rank_seconds", r.rank_seconds},
            {"flops", r.flops},
            {"flops_per_token", r.flops / r.token_count()},
            {"peak_memory_bytes", r.peak_memory_bytes},
            {"relative_time", reference ? json(r.rank_seconds / reference->rank_seconds) : json()},
            {"relative_flops", reference ? json(r.flops / reference->flops) : json()},
            {"difference_to_static", reference ? comparison(r, *reference) : json()}};
  if (!r.words.empty()) {
    j["words"] = static_cast<int64_t>(sum(r.words));
    j["word_perplexity"] = r.word_perplexity();
    j["word_perplexity_interval"] = json_of(through(exponential, bootstrap_interval(r.nats, r.words)));
  }
  if (!r.inner.is_null()) j["inner"] = r.inner;
  if (!r.breakdowns.is_null()) j["breakdowns"] = r.breakdowns;
  if (!r.settings.is_null()) j["settings"] = r.settings;
  return j;
}

std::string table_of(const std::vector<EvalResult>& results, const EvalResult* reference) {
  const bool words = !results.empty() && !results.front().words.empty();
  size_t width = 15;
  for (const EvalResult& r : results) width = std::max(width, r.mode.size() + 1);
  std::string text = "mode" + std::string(width - 4, ' ') +
                     "  nats/token   to static [95 % interval]   perplexity  bits/byte";
  if (words) text += "  word ppl.";
  text += "   tokens/s    time   FLOPs     memory\n";
  for (const EvalResult& r : results) {
    text += r.mode + std::string(width - r.mode.size(), ' ');
    text += column(format("%.4f", r.nats_per_token()), 12);
    text += column(reference && reference->mode != r.mode ? change_text(r, *reference) : "-", 28);
    text += column(format("%.3f", r.perplexity()), 13) + column(format("%.4f", r.bits_per_byte()), 11);
    if (words) text += column(format(r.word_perplexity() < 1e6 ? "%.2f" : "%.3g", r.word_perplexity()), 11);
    text += column(format("%.0f", r.tokens_per_s()), 11);
    text += column(reference ? format("%.2fx", r.rank_seconds / reference->rank_seconds) : "-", 8);
    text += column(reference ? format("%.2fx", r.flops / reference->flops) : "-", 8);
    text += column(format("%.0f MB", static_cast<double>(r.peak_memory_bytes) / 1e6), 11) + "\n";
  }
  return text;
}

}  // namespace fwl
