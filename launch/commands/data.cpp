#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "data/dataset_check.h"
#include "data/dataset_folder.h"
#include "data/dataset_text.h"
#include "launch/command.h"
#include "launch/data_inspection.h"

namespace fwl {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

struct DataArguments {
  std::string dir, out, split, json_path;
};

json describe(const DataProblem& p) {
  return {{"file", p.file},
          {"dataset", p.dataset},
          {"chunk", p.chunk < 0 ? json() : json(p.chunk)},
          {"offset", p.offset < 0 ? json() : json(p.offset)},
          {"unavailable", p.is_unavailable},
          {"problem", p.problem}};
}

void print(const DataProblem& p) {
  std::string place = p.file;
  if (!p.dataset.empty()) place += ", dataset " + p.dataset;
  if (p.chunk >= 0) place += cat(", chunk ", p.chunk);
  if (p.offset >= 0) place += cat(", offset ", p.offset);
  std::printf("%s %s: %s\n", p.is_unavailable ? "NOT READ" : "BAD", place.c_str(), p.problem.c_str());
}

// Damage is told before what only could not be read.
void require_sound(const std::string& dir, size_t damaged, size_t unavailable) {
  const std::string unread =
      unavailable == 0 ? "" : cat(" ", unavailable, " file(s) could not be read at all.");
  require<DataError>(
      damaged == 0, dir, ": ", damaged,
      " problem(s), listed above (nothing should be trained on it). Make the data set again, or "
      "put good copies of the files back.",
      unread);
  require<UnavailableError>(
      unavailable == 0, dir, ": ", unavailable,
      " file(s) cannot be read now, or not by this user, listed above (whether they are "
      "damaged is not known). Remedy that and check again.");
}

void run_check(const DataArguments& a) {
  const std::string dir = dataset_folder(a.dir);
  const DatasetCheck check = check_dataset(dir);
  json report = {{"path", dir},
                 {"ok", check.problems.empty()},
                 {"shards", check.shards},
                 {"documents", check.documents},
                 {"tokens", check.tokens},
                 {"bytes", check.bytes},
                 {"file_bytes", check.file_bytes},
                 {"read_mb_per_s", check.read_mb_per_s},
                 {"locking", check.locking},
                 {"remarks", check.remarks},
                 {"problems", json::array()}};
  const auto unavailable = static_cast<size_t>(std::count_if(
      check.problems.begin(), check.problems.end(), [](const DataProblem& p) { return p.is_unavailable; }));
  const size_t damaged = check.problems.size() - unavailable;
  report["unavailable"] = unavailable;
  for (const DataProblem& problem : check.problems) {
    print(problem);
    report["problems"].push_back(describe(problem));
  }
  if (const std::string beside = fs::path(dir).lexically_normal().string() + kUnfinishedEnding;
      fs::exists(beside))
    report["remarks"].push_back(
        cat("'", beside,
            "' is there: what was to replace this data set, or what it has replaced. Give "
            "`fwl tokenize --overwrite` again, or remove it."));
  for (const json& remark : report["remarks"])
    std::printf("note: %s\n", remark.get_ref<const std::string&>().c_str());
  std::printf("%s: %lld shard(s), %lld documents, %lld tokens; reading %.0f MB/s, file locking %s: %s\n",
              dir.c_str(), static_cast<long long>(check.shards), static_cast<long long>(check.documents),
              static_cast<long long>(check.tokens), check.read_mb_per_s, check.locking.c_str(),
              check.problems.empty() ? "all good"
              : damaged > 0          ? "BAD"
                                     : "not all of it could be read");
  write_json(a.json_path, report);
  require_sound(dir, damaged, unavailable);
}

bool is_inside(const std::string& path, const std::string& folder) {
  const fs::path relative = fs::weakly_canonical(path).lexically_relative(fs::canonical(folder));
  return !relative.empty() && *relative.begin() != "..";
}

void run_text(const DataArguments& a) {
  const std::string dir = dataset_folder(a.dir);
  require<ConfigError>(!fs::exists(a.out) || (fs::is_directory(a.out) && fs::is_empty(a.out)), "--out '",
                       a.out, "' is not empty (files would be mixed). Choose a new folder.");
  const Manifest manifest = read_manifest(dir);
  require<ConfigError>(!is_inside(a.out, dir), "--out '", a.out, "' lies in the data set ", dir,
                       " (it would hold files that are not its own). Choose a folder elsewhere.");
  require<ConfigError>(a.split.empty() || manifest.splits.count(a.split) > 0, "--split '", a.split,
                       "' is no split of ", dir, ". `fwl inspect` lists them.");
  fs::create_directories(a.out);
  json report = {{"path", dir}, {"out", a.out}};
  TextReport total;
  for (const auto& [name, split] : manifest.splits) {
    if (!a.split.empty() && name != a.split) continue;
    const TextReport part = write_documents(Split(dir + "/" + name), a.out);
    total.documents += part.documents;
    total.bytes += part.bytes;
    total.renamed += part.renamed;
  }
  if (total.renamed > 0)
    std::printf("%lld documents have another's name; theirs ends in .2, .3, ...\n",
                static_cast<long long>(total.renamed));
  std::printf("%s: %lld documents, %lld bytes\n", a.out.c_str(), static_cast<long long>(total.documents),
              static_cast<long long>(total.bytes));
  report.update({{"documents", total.documents}, {"bytes", total.bytes}, {"renamed", total.renamed}});
  write_json(a.json_path, report);
}

}  // namespace

void add_data_command(CLI::App& app) {
  CLI::App* data = app.add_subcommand("data", "check a data set, or write its documents back as files");
  data->require_subcommand(1);
  auto a = std::make_shared<DataArguments>();
  CLI::App* check = data->add_subcommand(
      "check", "verify every checksum, index, count and the tokenizer; probe locking and reading speed");
  check->add_option("dir", a->dir, "folder of the data set")->required()->type_name("DIR");
  add_json_option(*check, a->json_path);
  check->callback([a] { run_check(*a); });
  CLI::App* text = data->add_subcommand("text", "write the documents back as files, byte for byte");
  text->add_option("dir", a->dir, "folder of the data set")->required()->type_name("DIR");
  text->add_option("--out", a->out, "new folder for the files")
      ->required()
      ->type_name("FOLDER")
      ->check(folder_to_fill());
  text->add_option("--split", a->split, "only this split (default: all)")->type_name("NAME");
  add_json_option(*text, a->json_path);
  text->callback([a] { run_text(*a); });
}

}  // namespace fwl
