// Bytes per second of `fwl tokenize` (files to published shards) beside SentencePiece itself (lines in memory
// to ids that are thrown away), on as many threads. The text is this repository's own, repeated to 16 MB, or
// the files of $FWL_BENCHMARK_TEXT; the tokenizer is trained on it, or $FWL_BENCHMARK_TOKENIZER.
#include <benchmark/benchmark.h>
#include <sentencepiece_processor.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <thread>

#include "core/base/file.h"
#include "data/dataset_builder.h"
#include "data/tokenizer_training.h"
#include "tests/support/temporary_folder.h"

namespace fwl {
namespace {

struct Corpus {
  TemporaryFolder folder;
  std::vector<DocumentFile> files;
  std::vector<std::string> texts;
  int64_t bytes = 0;
  std::string model;
};

std::vector<DocumentFile> repeat_sources(const TemporaryFolder& folder) {
  int64_t bytes = 0;
  for (int copy = 0; bytes < 16'000'000; ++copy) {
    for (const DocumentFile& file :
         find_documents({std::string(FWL_SOURCE_DIR) + "/data", std::string(FWL_SOURCE_DIR) + "/launch",
                         std::string(FWL_SOURCE_DIR) + "/core"},
                        {"*.h", "*.cpp"})) {
      write_text(folder / ("text/" + std::to_string(copy) + "/" + file.name), read_file(file.path, "source"));
      bytes += file.bytes;
    }
  }
  return find_documents({folder / "text"}, {});
}

const Corpus& corpus() {
  static const Corpus* const only = [] {
    auto* c = new Corpus;
    const char* text = std::getenv("FWL_BENCHMARK_TEXT");
    const char* model = std::getenv("FWL_BENCHMARK_TOKENIZER");
    c->files = text != nullptr ? find_documents({text}, {}) : repeat_sources(c->folder);
    TokenizerTraining training;
    training.vocab_size = 4096;
    training.sample_bytes = 2'000'000;
    c->model = model != nullptr ? read_file(model, "tokenizer") : train_sentencepiece(c->files, training);
    for (const DocumentFile& file : c->files) {
      c->texts.push_back(read_file(file.path, "document"));
      c->bytes += static_cast<int64_t>(c->texts.back().size());
    }
    return c;
  }();
  return *only;
}

// As spm_encode does it: line by line.
int64_t encode_lines(const sentencepiece::SentencePieceProcessor& processor, std::string_view text) {
  int64_t tokens = 0;
  std::vector<int> ids;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size() - 1) + 1;
    (void)processor.Encode(absl::string_view(text.data(), end), &ids);
    tokens += static_cast<int64_t>(ids.size());
    text.remove_prefix(end);
  }
  return tokens;
}

void sentencepiece_itself(benchmark::State& state) {
  const Corpus& c = corpus();
  sentencepiece::SentencePieceProcessor processor;
  (void)processor.LoadFromSerializedProto(c.model);
  for (auto _ : state) {
    std::atomic<size_t> next{0};
    std::atomic<int64_t> tokens{0};
    std::vector<std::thread> threads;
    for (int t = 0; t < state.range(0); ++t) {
      threads.emplace_back([&] {
        for (size_t i = next++; i < c.texts.size(); i = next++) tokens += encode_lines(processor, c.texts[i]);
      });
    }
    for (std::thread& thread : threads) thread.join();
    benchmark::DoNotOptimize(tokens.load());
  }
  state.SetBytesProcessed(state.iterations() * c.bytes);
}
BENCHMARK(sentencepiece_itself)
    ->ArgName("threads")
    ->Arg(1)
    ->Arg(2)
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);

void fwl_tokenize(benchmark::State& state) {
  const Corpus& c = corpus();
  const auto tokenizer = make_tokenizer("sentencepiece", c.model, "benchmark");
  BuildOptions options;
  options.out = c.folder / "ds";
  options.existing = ExistingDataset::kReplace;
  options.threads = static_cast<int>(state.range(0));
  for (auto _ : state) build_dataset(c.files, *tokenizer, options);
  state.SetBytesProcessed(state.iterations() * c.bytes);
}
BENCHMARK(fwl_tokenize)->ArgName("threads")->Arg(1)->Arg(2)->UseRealTime()->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace fwl
