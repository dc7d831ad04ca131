#include "data/group_journal.h"

#include <filesystem>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/hash.h"
#include "core/base/json.h"
#include "core/base/system_error.h"

namespace fwl {
namespace {

using nlohmann::json;

json to_json(const SkippedLines& lines) {
  json first = json::array();
  for (const BadLine& line : lines.first) first.push_back({line.file, line.line, line.problem});
  return {{"count", lines.count}, {"first", first}};
}

int64_t number_of(const json& value) {
  return whole_number(value, 0, INT64_MAX);
}

SkippedLines skipped_lines_from(const json& from) {
  SkippedLines lines;
  lines.count = number_of(from.at("count"));
  for (const json& line : from.at("first"))
    lines.first.push_back({line.at(0), number_of(line.at(1)), line.at(2)});
  return lines;
}

// Throws json::exception, std::logic_error, DataError for what is no journal.
GroupState parse(const json& journal, const std::string& path, const std::vector<std::string>& splits) {
  GroupState state(splits.size());
  state.done = journal.at("done");
  state.stamp = journal.at("stamp");
  state.text_files = number_of(journal.at("text_files"));
  state.json_files = number_of(journal.at("json_files"));
  state.skipped_lines = skipped_lines_from(journal.at("skipped_lines"));
  for (size_t s = 0; s < splits.size(); ++s) {
    const json& split = journal.at("splits").at(splits[s]);
    for (const json& end : split.at("ends"))
      state.ends[s].push_back({number_of(end.at(0)), std::stoull(end.at(1).get<std::string>(), nullptr, 16)});
    for (const json& shard : split.at("shards"))
      state.published[s].shards.push_back(shard_from_json_text(shard.dump(), path));
  }
  return state;
}

}  // namespace

size_t GroupState::shards() const {
  size_t shards = 0;
  for (const SplitEntry& split : published) shards += split.shards.size();
  return shards;
}

int64_t GroupState::documents_published(size_t split) const {
  return ends[split].empty() ? 0 : ends[split].back().documents;
}

uint64_t GroupState::hash(size_t split) const {
  return ends[split].empty() ? kNoDocuments : ends[split].back().hash;
}

GroupState read_group_journal(const std::string& path, const std::vector<std::string>& splits) {
  try {
    if (std::filesystem::exists(path)) return parse(parse_json(read_file(path, "journal")), path, splits);
  } catch (const json::exception&) {
  } catch (const std::logic_error&) {
  } catch (const DataError&) {
  } catch (const SystemError& error) {
    if (!error.is_missing()) throw;  // not to be read now: what it holds is not made again for that
  }
  return GroupState(splits.size());
}

void write_group_journal(const std::string& path, const std::vector<std::string>& splits,
                         const GroupState& state) {
  json journal = {{"done", state.done},
                  {"stamp", state.stamp},
                  {"text_files", state.text_files},
                  {"json_files", state.json_files},
                  {"skipped_lines", to_json(state.skipped_lines)}};
  for (size_t s = 0; s < splits.size(); ++s) {
    json shards = json::array(), ends = json::array();
    for (const ShardEntry& shard : state.published[s].shards)
      shards.push_back(json::parse(to_json_text(shard)));
    for (const GroupState::End& end : state.ends[s]) ends.push_back({end.documents, to_hex(end.hash)});
    journal["splits"][splits[s]] = {{"ends", ends}, {"shards", shards}};
  }
  publish_file(path, json_text(journal, 1) + "\n");
}

}  // namespace fwl
