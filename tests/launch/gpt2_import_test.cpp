// The reference is Hugging Face's own GPT-2, run by tests/support/test-python.
#include "launch/gpt2.h"

#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdlib>
#include <memory>

#include "checkpoints/safetensors.h"
#include "core/base/error.h"
#include "core/base/file.h"
#include "tests/support/temporary_folder.h"

namespace fwl {
namespace {

constexpr double kTolerance = 1e-4;
constexpr int kNotInstalled = 77;

// Exit code of tests/support/make_gpt2.py FOLDER SETTINGS.
int make_gpt2(const std::string& folder, const std::string& settings = "") {
  const std::string support = FWL_SOURCE_DIR "/tests/support/";
  const int status =
      std::system((support + "test-python " + support + "make_gpt2.py " + folder + " " + settings).c_str());
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

// One GPT-2 for all tests: Python takes seconds to start.
class Gpt2ImportTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder = std::make_unique<TemporaryFolder>();
    made = make_gpt2(*folder / "usual");
    if (made == 0)
      made = make_gpt2(*folder / "odd", "tie_word_embeddings=false n_embd=45 n_head=5 n_inner=100");
  }
  static void TearDownTestSuite() { folder.reset(); }
  void SetUp() override {
    if (made == kNotInstalled) GTEST_SKIP() << "SKIPPED: Hugging Face transformers is not there";
    ASSERT_EQ(made, 0) << "tests/support/make_gpt2.py failed";
  }
  static std::unique_ptr<TemporaryFolder> folder;
  static int made;
};
std::unique_ptr<TemporaryFolder> Gpt2ImportTest::folder;
int Gpt2ImportTest::made = 0;

TokenBatch batch_of(const Tensor& token_bt) {
  TokenBatch batch;
  batch.input_bt = token_bt;
  batch.label_bt = token_bt.roll(-1, 1);
  batch.weight_bt = at::ones(token_bt.sizes(), at::kFloat);
  return batch;
}

double largest_difference(const Tensor& a, const Tensor& b) {
  return (a - b).abs().max().item<double>();
}

void expect_same_logits(const std::string& folder) {
  const SafetensorsFile expected(folder + "/expected.safetensors");
  const Gpt2Import imported = import_gpt2(folder, {});
  const TokenBatch batch = batch_of(expected.read("tokens"));
  const Tensor theirs = expected.read("logits");
  EXPECT_GT(theirs.abs().max().item<double>(), 1) << "logits near zero would agree by themselves";
  EXPECT_LT(largest_difference(imported.model->logits(batch, Pass::kSlow), theirs), kTolerance);
  // The layer on top is there and learns: its fast pass differs from the first tokens on.
  EXPECT_GT(largest_difference(imported.model->logits(batch, Pass::kFast), theirs), kTolerance);
  // Or it is not, and the model has GPT-2's parameters alone.
  const Gpt2Import plain = import_gpt2(folder, {"model.fast_weight.update=absent"});
  EXPECT_LT(largest_difference(plain.model->logits(batch, Pass::kSlow), theirs), kTolerance);
  EXPECT_FALSE(plain.model->parameters().has("fast_weight.dense1.weight"));
}

TEST_F(Gpt2ImportTest, SlowLogitsEqualHuggingFace) {
  expect_same_logits(*folder / "usual");
}

TEST_F(Gpt2ImportTest, UntiedHeadOddHeadWidthAndOtherInnerWidthAreKept) {
  expect_same_logits(*folder / "odd");
}

TEST_F(Gpt2ImportTest, DecodingTokenByTokenEqualsTheWholeSequence) {
  const SafetensorsFile expected(*folder / "usual/expected.safetensors");
  const Gpt2Import imported = import_gpt2(*folder / "usual", {});
  const Tensor tokens = expected.read("tokens"), logits = expected.read("logits");
  ContinuedSequence text;
  for (int64_t t = 0; t < tokens.size(1); ++t) {
    const Tensor next = imported.model->logits({tokens.narrow(1, t, 1), {}, {}, {}}, Pass::kSlow, text);
    ASSERT_LT(largest_difference(next, logits.narrow(1, t, 1)), kTolerance) << "position " << t;
  }
  EXPECT_THROW(imported.model->logits({tokens.narrow(1, 0, 1), {}, {}, {}}, Pass::kSlow, text), ConfigError)
      << "there is no learned position after the last";
}

TEST_F(Gpt2ImportTest, WhatWouldChangeTheLogitsIsRefused) {
  const std::string gpt2 = *folder / "usual";
  for (const char* setting : {"model.layers=2", "model.norm=rms", "model.positions=rotary",
                              "model.max_positions=128", "model.fast_weight.residual=false"})
    EXPECT_THROW(import_gpt2(gpt2, {setting}), ConfigError) << setting;
  EXPECT_NO_THROW(import_gpt2(gpt2, {"model.context=32", "model.fast_weight.width=8"}));
  const std::string config = read_file(gpt2 + "/config.json", "config");
  for (const auto& [from, to] : std::vector<std::pair<std::string, std::string>>{
           {"gelu_new", "relu"},
           {"\"model_type\": \"gpt2\"", "\"model_type\": \"llama\""},
           {"\"layer_norm_epsilon\": 1e-05", "\"layer_norm_epsilon\": 1e-06"},
           {"\"n_embd\": 48", "\"n_embd\": 40"},
           {"\"n_embd\": 48", "\"n_embd\": 0"},
           {"\"n_head\": 4", "\"n_head\": 0"},
           {"\"n_positions\": 64", "\"n_positions\": 1000000000000"},
           {"\"n_positions\": 64", "\"n_positions\": 2000000000"},
           {"\"n_layer\": 3", "\"n_layer\": 2"},
           {"\"n_layer\": 3", "\"n_layer\": -1"},
           {"\"n_layer\": 3", "\"n_layer\": 1000000000"},
           {"\"n_layer\": 3", "\"n_layer\": 4"}}) {
    std::string changed = config;
    ASSERT_NE(changed.find(from), std::string::npos) << from;
    changed.replace(changed.find(from), from.size(), to);
    write_text(gpt2 + "/config.json", changed);
    EXPECT_THROW(import_gpt2(gpt2, {}), DataError) << to;
  }
  write_text(gpt2 + "/config.json", config);
}

TEST_F(Gpt2ImportTest, AFolderThatIsNoGpt2IsADataError) {
  const TemporaryFolder other;
  EXPECT_THROW(import_gpt2(other / "none", {}), UnavailableError);
  write_text(other / "config.json", "[]");
  EXPECT_THROW(import_gpt2(other.path(), {}), DataError);
  write_text(other / "config.json", "{");
  EXPECT_THROW(import_gpt2(other.path(), {}), DataError);
}

}  // namespace
}  // namespace fwl
