#include "launch/evaluation/result.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <numeric>

#include "core/base/error.h"
#include "core/base/json_number.h"
#include "core/base/median.h"
#include "launch/evaluation/speed.h"

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

std::string number(const char* pattern, double value) {
  return std::isfinite(value) ? format(pattern, value) : "-";
}

// Aligned to the right; "±" is one place.
std::string column(const std::string& text, int width) {
  const auto is_continuation = [](char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; };
  const auto places = static_cast<int>(text.size()) -
                      static_cast<int>(std::count_if(text.begin(), text.end(), is_continuation));
  return std::string(static_cast<size_t>(std::max(0, width - places)), ' ') + text;
}

std::string time_text(const EvalResult& r, const EvalResult& reference) {
  const RelativeTime time = relative_time(r, reference);
  if (!std::isfinite(time.ratio)) return "-";
  return format("%.2fx", time.ratio) +
         (std::isfinite(time.spread) ? format(" \u00b1 %.2f", time.spread) : "") +
         (time.is_disturbed ? " !" : "");
}

std::string change_text(const EvalResult& r, const EvalResult& reference) {
  if (!r.is_finite() || !reference.is_finite()) return "-";
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
bool EvalResult::is_finite() const {
  return std::all_of(nats.begin(), nats.end(), [](double x) { return std::isfinite(x); });
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

RelativeTime relative_time(const EvalResult& r, const EvalResult& reference) {
  std::vector<double> ratios;
  for (size_t i = 0; i < std::min(r.turns.size(), reference.turns.size()); ++i) {
    const ModeTurn &own = r.turns[i], &beside = reference.turns[i];
    if (own.tokens > 0 && beside.tokens > 0 && beside.rank_seconds > 0)
      ratios.push_back(own.rank_seconds / own.tokens / (beside.rank_seconds / beside.tokens));
  }
  RelativeTime time{median(ratios), std::numeric_limits<double>::quiet_NaN(), false};
  if (&r == &reference) return time;
  time.spread = spread_of(ratios);
  time.is_disturbed = is_below_its_work(time.ratio, time.spread, r.flops / reference.flops);
  return time;
}

std::vector<std::string> speed_problems(const std::vector<EvalResult>& results, const EvalResult* reference) {
  std::vector<SpeedFigure> figures;
  for (const EvalResult& r : results) {
    if (!r.is_finite() || reference == nullptr) continue;
    const RelativeTime time = relative_time(r, *reference);
    figures.push_back({r.mode, r.mode, time.ratio, r.flops / r.token_count(), "", time.is_disturbed});
  }
  return problems_of(figures);
}

json to_json(const EvalResult& r, const EvalResult* reference) {
  // Nothing is resampled from losses that are no numbers.
  const bool finite = r.is_finite(), compares = finite && reference != nullptr && reference->is_finite();
  const auto per_token = finite ? bootstrap_interval(r.nats, r.tokens) : std::nullopt;
  const auto per_byte = finite ? bootstrap_interval(r.nats, r.bytes) : std::nullopt;
  const RelativeTime time = reference ? relative_time(r, *reference) : RelativeTime();
  json j = {{"finite", finite},
            {"nats_per_token", number_or_null(r.nats_per_token())},
            {"nats_per_token_interval", json_of(per_token)},
            {"perplexity", number_or_null(r.perplexity())},
            {"perplexity_interval", json_of(through(exponential, per_token))},
            {"bits_per_byte", number_or_null(r.bits_per_byte())},
            {"bits_per_byte_interval", json_of(through(bits_of, per_byte))},
            {"tokens", static_cast<int64_t>(r.token_count())},
            {"documents", r.tokens.size()},
            {"bytes", static_cast<int64_t>(sum(r.bytes))},
            {"tokens_per_s", number_or_null(r.tokens_per_s())},
            {"seconds", number_or_null(r.seconds)},
            {"rank_seconds", number_or_null(r.rank_seconds)},
            {"flops", number_or_null(r.flops)},
            {"flops_per_token", number_or_null(r.flops / r.token_count())},
            {"peak_memory_bytes", r.peak_memory_bytes},
            {"relative_time", reference ? number_or_null(time.ratio) : json()},
            {"relative_time_spread", reference ? number_or_null(time.spread) : json()},
            {"time_is_disturbed", reference ? json(time.is_disturbed) : json()},
            {"relative_flops", reference ? number_or_null(r.flops / reference->flops) : json()},
            {"difference_to_static", compares ? comparison(r, *reference) : json()}};
  if (!r.words.empty()) {
    j["words"] = static_cast<int64_t>(sum(r.words));
    j["word_perplexity"] = number_or_null(r.word_perplexity());
    j["word_perplexity_interval"] =
        finite ? json_of(through(exponential, bootstrap_interval(r.nats, r.words))) : json();
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
  text += "   tokens/s            time   FLOPs     memory\n";
  for (const EvalResult& r : results) {
    text += r.mode + std::string(width - r.mode.size(), ' ');
    text += column(r.is_finite() ? format("%.4f", r.nats_per_token()) : "not finite", 12);
    text += column(reference && reference->mode != r.mode ? change_text(r, *reference) : "-", 28);
    text += column(number("%.3f", r.perplexity()), 13) + column(number("%.4f", r.bits_per_byte()), 11);
    if (words) text += column(number(r.word_perplexity() < 1e6 ? "%.2f" : "%.3g", r.word_perplexity()), 11);
    text += column(number("%.0f", r.tokens_per_s()), 11);
    text += column(reference ? time_text(r, *reference) : "-", 16);
    text += column(reference ? number("%.2fx", r.flops / reference->flops) : "-", 8);
    text += column(format("%.0f MB", static_cast<double>(r.peak_memory_bytes) / 1e6), 11) + "\n";
  }
  return text;
}

}  // namespace fwl
