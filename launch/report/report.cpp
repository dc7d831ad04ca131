#include "launch/report/report.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>

#include "checkpoints/checkpoint.h"
#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/hash.h"
#include "core/base/hex.h"
#include "core/base/json.h"
#include "core/base/json_number.h"
#include "launch/report/reading.h"
#include "launch/report/tables.h"

namespace fwl {

namespace {

using nlohmann::json;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

// ---- JSON

json columns_of(const LoggedRun& run) {
  json columns = {{"label", run.label},     {"folder", run.folder},
                  {"skipped", run.skipped}, {"tokens_per_s", number_or_null(run.tokens_per_s)},
                  {"step", json::array()},  {"tokens", json::array()},
                  {"loss", json::array()}};
  for (const LogPoint& point : run.points) {
    columns["step"].push_back(point.step);
    columns["tokens"].push_back(number_or_null(point.tokens));
    columns["loss"].push_back(number_or_null(point.loss));
  }
  return columns;
}

json columns_of(const GapCurve& gap) {
  return {{"label", gap.label},
          {"against", gap.against},
          {"step", gap.step},
          {"tokens", gap.tokens},
          {"percent", gap.percent}};
}

json objects_of(const DataTable& table) {
  json objects = json::array();
  for (const auto& row : table.rows) {
    json object;
    for (size_t i = 0; i < row.size(); ++i) object[table.columns[i]] = row[i];
    objects.push_back(object);
  }
  return objects;
}

// ---- the page

std::string paragraph(const std::string& text, const std::string& style = "") {
  if (text.empty()) return "";
  return cat(style.empty() ? "<p>" : cat("<p class=\"", style, "\">"), escape_html(text), "</p>\n");
}

struct Section {
  std::string id, title, html;
};

TextTable run_table(const std::vector<LoggedRun>& runs) {
  TextTable table{{"run", "last step", "tokens", "loss at the end", "tokens/s", "skipped steps"}, {}};
  for (const LoggedRun& run : runs) {
    const LogPoint last = run.points.empty() ? LogPoint{0, 0, kNaN} : run.points.back();
    table.rows.push_back({run.label, cat(last.step), short_number(last.tokens), fixed(last.loss, 3),
                          short_number(run.tokens_per_s), cat(run.skipped)});
  }
  return table;
}

// Says in one sentence what the best row is worth; empty when there is nothing to compare.
std::string summary(const std::vector<EvalRow>& rows) {
  if (rows.size() < 2) return "";
  const EvalRow& best = best_of(rows);
  if (!best.is_finite()) return "No row has a finite loss.";
  if (&best == &rows.front()) return cat("No row is better than the baseline, ", rows.front().label, ".");
  return cat("Lowest loss on held-out text: ", best.label, " with ", fixed(loss_of(best, rows), 4), " ",
             loss_unit(rows), ", ", signed_percent(best.change_percent), " against ", rows.front().label,
             ".");
}

std::vector<Card> cards(const Report& report) {
  std::vector<Card> found;
  if (report.rows.size() > 1) {
    const EvalRow& best = best_of(report.rows);
    const EvalRow& base = report.rows.front();
    const std::string interval =
        std::isfinite(best.change_low)
            ? cat("95 %: ", fixed(best.change_low, 2), " to ", fixed(best.change_high, 2), " %")
            : cat("against ", base.label);
    if (&best != &base) found.push_back({best.label, signed_percent(best.change_percent), interval});
    found.push_back({loss_unit(report.rows), fixed(loss_of(best, report.rows), 3),
                     cat("baseline ", fixed(loss_of(base, report.rows), 3))});
    if (&best != &base && std::isfinite(best.time_to_baseline) && !best.is_disturbed)
      found.push_back({"time per " + time_unit(report.rows), fixed(best.time_to_baseline, 2) + "x",
                       best.time_is_apart ? "of the baseline's, measured apart" : "of the baseline's"});
    found.push_back({"held-out tokens", short_number(base.tokens), "each scored once"});
  }
  if (found.empty() && !report.runs.empty()) {
    for (const LoggedRun& run : report.runs)
      if (!run.points.empty() && found.size() < 4)
        found.push_back({run.label, fixed(run.points.back().loss, 3),
                         cat("nats per token after ", short_number(run.points.back().tokens), " tokens")});
  }
  return found;
}

std::string evaluation_note(const std::vector<EvalRow>& rows) {
  std::string note = cat("Held-out text, ", short_number(rows.front().tokens),
                         " tokens, every token predicted from those before it.", " Change: ", loss_unit(rows),
                         " against the first row; less is better. Time per ", time_unit(rows),
                         " relative to the first row; "
                         "\u00b1: spread over the turns that modes took.");
  if (std::any_of(rows.begin(), rows.end(), [](const EvalRow& row) { return std::isfinite(row.change_low); }))
    note += " Intervals: of the paired difference, over documents.";
  if (std::any_of(rows.begin(), rows.end(), [](const EvalRow& r) { return std::isfinite(r.relative_flops); }))
    note += " FLOPs relative to the same model's static pass.";
  for (const std::string& caution : cautions_of(rows)) note += " " + caution;
  return note;
}

std::string held_out_html(const Report& report) {
  std::string html = html_table(evaluation_table(report.rows), evaluation_note(report.rows));
  if (const auto chart = speed_quality_chart(report.rows)) html += html_figure(*chart);
  return html;
}

std::string breakdown_html(const std::vector<Chart>& charts, const Report& report) {
  return paragraph(
             cat("What each mode gains on ", report.rows.front().label,
                 ", in nats per token: above zero it predicts better. Grey bars: where the tokens are.")) +
         html_grid(charts);
}

// Losses per token of several tokenizers do not compare.
std::string run_caution(const std::vector<LoggedRun>& runs) {
  LabelledTokenizers tokenizers;
  for (const LoggedRun& run : runs) tokenizers.emplace_back(run.label, run.tokenizer);
  return tokenizer_caution("runs", tokenizers, "Gaps are shown between runs of one tokenizer alone.");
}

std::string learning_html(const Report& report) {
  std::string html = html_figure(loss_chart(report.runs)) + html_table(run_table(report.runs), "");
  const std::string caution = run_caution(report.runs);
  if (!caution.empty()) html += paragraph(caution, "note");
  if (gaps(report.runs).empty()) return html;
  return html + html_figure(gap_chart(gaps(report.runs))) +
         paragraph(
             "Short runs flatter the layer: early in training it stands in for what attention has not "
             "learned "
             "yet, and with attention over the whole context the gap shrinks as training goes on. Read where "
             "the curve is heading, not only where it ends.",
             "note");
}

std::string scaling_html(const std::vector<ScalingRow>& rows) {
  return html_grid(scaling_charts(rows)) + html_table(scaling_table(rows),
                                                      "Efficiency: speed per GPU against the row "
                                                      "with the fewest GPUs of the same line.");
}

std::vector<Section> sections_of(const Report& report) {
  std::vector<Section> sections;
  if (!report.rows.empty()) sections.push_back({"held-out", "On held-out text", held_out_html(report)});
  if (const auto charts = breakdown_charts(report.rows); !charts.empty())
    sections.push_back({"why", "Where the gain comes from", breakdown_html(charts, report)});
  if (!report.runs.empty()) sections.push_back({"learning", "Learning curves", learning_html(report)});
  if (const auto charts = progress_charts(report.runs); !charts.empty())
    sections.push_back({"training", "While training", html_grid(charts)});
  if (!report.scaling.empty()) sections.push_back({"scaling", "Scaling", scaling_html(report.scaling)});
  return sections;
}

// As the newest checkpoint records it; empty where there is none.
std::string tokenizer_of_run(const std::string& folder) {
  try {
    const CheckpointInfo info = read_checkpoint_info(find_checkpoint(folder));
    return cat(info.tokenizer_kind, " ", to_hex(hash_bytes(info.tokenizer_bytes)));
  } catch (const Error&) {
    return "";
  }
}

std::string navigation(const std::vector<Section>& sections) {
  if (sections.size() < 2) return "";
  std::string html = "<nav aria-label=\"sections\"><ul>\n";
  for (const Section& s : sections)
    html += cat("<li><a href=\"#", s.id, "\">", escape_html(s.title), "</a></li>\n");
  return html + "</ul></nav>\n";
}

std::string links(const std::vector<std::string>& files) {
  if (files.empty()) return "";
  std::string html = "<h2 id=\"files\">Data files</h2>\n<p class=\"files\">Beside this page: ";
  for (size_t i = 0; i < files.size(); ++i)
    html +=
        cat(i == 0 ? "" : ", ", "<a href=\"", escape_html(files[i]), "\">", escape_html(files[i]), "</a>");
  return html + ".</p>\n";
}

}  // namespace

std::vector<std::string> cautions_of(const Report& report) {
  std::vector<std::string> cautions = cautions_of(report.rows);
  if (const std::string caution = run_caution(report.runs); !caution.empty()) cautions.push_back(caution);
  return cautions;
}

void add_input(Report& report, const std::string& argument) {
  const std::string path = split_label(argument).value;
  if (!std::filesystem::is_regular_file(path)) {
    report.runs.push_back(read_run(argument));
    report.runs.back().tokenizer = tokenizer_of_run(path);
    return;
  }
  const json file = parse_json(read_file(path, "input of the report"));
  require<DataError>(
      file.is_object() && (file.contains("modes") || file.contains("scaling") || file.contains("plan")), path,
      " is neither a run's folder nor JSON with 'modes', 'scaling' or 'plan'. Name a run, a result of "
      "`fwl eval --json`, or a scaling file.");
  if (file.contains("modes"))
    for (EvalRow& row : read_eval_rows(argument)) report.rows.push_back(std::move(row));
  if (!file.contains("scaling") && !file.contains("plan")) return;
  for (ScalingRow& row : read_scaling(argument)) report.scaling.push_back(std::move(row));
}

std::string report_html(const Report& report, const std::vector<std::string>& files) {
  const std::vector<Section> sections = sections_of(report);
  std::string body = paragraph(summary(report.rows)) + navigation(sections) + html_cards(cards(report));
  for (const Section& s : sections)
    body += cat("<section>\n<h2 id=\"", s.id, "\">", escape_html(s.title), "</h2>\n", s.html, "</section>\n");
  return html_page(report.title, body + links(files));
}

json report_json(const Report& report) {
  json result = {{"title", report.title},
                 {"cautions", cautions_of(report)},
                 {"evaluation", json::array()},
                 {"runs", json::array()},
                 {"gaps", json::array()}};
  for (const DataTable& table : data_tables(report)) result[table.name] = objects_of(table);
  result["gaps"] = json::array();
  for (const LoggedRun& run : report.runs) result["runs"].push_back(columns_of(run));
  for (const GapCurve& gap : gaps(report.runs)) result["gaps"].push_back(columns_of(gap));
  return result;
}

}  // namespace fwl
