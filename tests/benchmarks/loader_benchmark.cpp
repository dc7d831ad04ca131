// Tokens per second of the loader alone: random windows of 1,024 from a data set in files (not in memory),
// warm. The argument is the compression (0 none, 1 deflate); `resident_mb_grown` is what the process grew by
// meanwhile.
#include <benchmark/benchmark.h>
#include <unistd.h>

#include <cmath>
#include <fstream>
#include <map>

#include "core/base/hash.h"
#include "data/loader.h"
#include "data/prefetcher.h"
#include "data/shard_writer.h"
#include "data/tokenizer.h"
#include "tests/support/temporary_folder.h"

namespace fwl {
namespace {

constexpr int64_t kTokens = 40'000'000, kVocabulary = 16'384, kContext = 1024, kRows = 16;

// Tokens with about the frequencies of text (Zipf), in documents of 4,000.
void write_split(const std::string& dir, Compression compression) {
  Manifest manifest{"sentencepiece", "0", kVocabulary, 1, {}, compression, {}, false};
  ShardWriter writer(dir, "train", manifest, 10'000'000);
  std::vector<int32_t> tokens(4000);
  for (int64_t done = 0; done < kTokens; done += static_cast<int64_t>(tokens.size())) {
    for (size_t i = 0; i < tokens.size(); ++i) {
      const double u = static_cast<double>(mix_bits(static_cast<uint64_t>(done) + i) >> 11) * 0x1.0p-53;
      tokens[i] = static_cast<int32_t>(std::exp(u * std::log(static_cast<double>(kVocabulary - 2)))) + 1;
    }
    tokens[0] = 1;
    writer.append({std::to_string(done), 16'000, tokens});
  }
  manifest.splits["train"] = writer.finish();
  write_manifest(dir, manifest);
}

const std::string& data_set(Compression compression) {
  static const TemporaryFolder folder;
  static std::map<Compression, std::string> made;
  if (made.count(compression) == 0) {
    const std::string dir = folder / name_of(compression);
    write_text(dir + "/.keep", "");
    write_split(dir, compression);
    made[compression] = dir;
  }
  return made[compression];
}

double resident_mb() {
  std::ifstream statm("/proc/self/statm");
  int64_t total = 0, resident = 0;
  statm >> total >> resident;
  return static_cast<double>(resident) * static_cast<double>(sysconf(_SC_PAGESIZE)) / 1e6;
}

void random_windows(benchmark::State& state) {
  const Split split(data_set(static_cast<Compression>(state.range(0))), /*tokens_in_memory=*/0);
  const Loader loader(split, kContext, 1);
  int64_t sample = 0;
  for (; sample < loader.windows_per_epoch() / 4; sample += kRows) loader.read(sample, kRows);  // warm
  const double before = resident_mb();
  for (auto _ : state) {
    benchmark::DoNotOptimize(loader.read(sample, kRows).tokens.data());
    sample += kRows;
  }
  state.SetItemsProcessed(state.iterations() * kRows * kContext);
  state.counters["resident_mb_grown"] = resident_mb() - before;
}
BENCHMARK(random_windows)->ArgName("compression")->Arg(0)->Arg(1)->MinTime(3)->UseRealTime();

// As training reads: a thread of its own fills a queue, another takes.
void prefetched_windows(benchmark::State& state) {
  const Split split(data_set(static_cast<Compression>(state.range(0))), /*tokens_in_memory=*/0);
  const Loader loader(split, kContext, 1);
  Prefetcher<Batch> prefetcher([&](int64_t k) { return loader.read(k * kRows, kRows); }, 4);
  for (int64_t k = 0; k < loader.windows_per_epoch() / 4 / kRows; ++k) prefetcher.next();  // warm
  for (auto _ : state) benchmark::DoNotOptimize(prefetcher.next().tokens.data());
  state.SetItemsProcessed(state.iterations() * kRows * kContext);
}
BENCHMARK(prefetched_windows)->ArgName("compression")->Arg(0)->Arg(1)->MinTime(3)->UseRealTime();

}  // namespace
}  // namespace fwl
