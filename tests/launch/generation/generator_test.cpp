#include "launch/generation/generator.h"

#include <gtest/gtest.h>

#include <fstream>
#include <limits>

#include "core/base/error.h"
#include "core/base/file.h"
#include "launch/generation/state_file.h"
#include "tests/support/small_model.h"
#include "tests/support/temporary_folder.h"

namespace fwl {
namespace {

class GeneratorTest : public testing::Test {
 protected:
  // Lives as long as the test.
  const LanguageModel& make_model(uint64_t seed = 2, const std::string& update = "slow_gradient",
                                  int64_t window = 8) {
    ModelConfig config = small_model_config();
    config.vocab_size = tokenizer_->vocab_size() + 3;  // padded: the last three have no token
    config.fast_weight.update = update;
    config.window = window;
    config.unembedding_bias = true;
    models_.push_back(std::make_unique<LanguageModel>(config, at::kCPU, at::kFloat, seed));
    LanguageModel& model = *models_.back();
    const at::NoGradGuard no_grad;
    // Sharper than an untrained model, so that texts differ when states do; no text ends by itself.
    for (const Parameter& p : model.parameters().all())
      if (p.group == ParameterGroup::kDecay) Tensor(p.value).mul_(4);
    Tensor(model.parameters()["unembedding.bias"])[tokenizer_->document_start()].fill_(-1000);
    return model;
  }
  LanguageModel& learned_positions(int64_t positions) {
    ModelConfig config = small_model_config();
    config.vocab_size = tokenizer_->vocab_size();
    config.positions = "learned";
    config.window = 0;
    config.context = positions;
    config.unembedding_bias = true;
    models_.push_back(std::make_unique<LanguageModel>(config, at::kCPU, at::kFloat, 2));
    const at::NoGradGuard no_grad;
    Tensor(models_.back()->parameters()["unembedding.bias"])[tokenizer_->document_start()].fill_(-1000);
    return *models_.back();
  }
  std::vector<Continuation> run(const LanguageModel& model, const std::vector<std::string>& prompts,
                                const GenerationOptions& options,
                                const std::optional<ReadingState>& before = std::nullopt) {
    std::vector<std::vector<int32_t>> ids;
    for (const std::string& prompt : prompts) ids.push_back(tokenizer_->encode(prompt));
    shown_.assign(prompts.size(), "");
    return Generator(model, *tokenizer_, options)
        .run(before, ids, [&](size_t prompt, const std::string& piece, bool) { shown_[prompt] += piece; });
  }
  ReadingState read(const LanguageModel& model, const std::string& text, const GenerationOptions& options) {
    return Generator(model, *tokenizer_, options).read(std::nullopt, tokenizer_->encode(text));
  }
  static GenerationOptions options(int64_t tokens, Adapt adapt = Adapt::kPrompt) {
    GenerationOptions o;
    o.max_tokens = tokens;
    o.adapt = adapt;
    o.seed = 7;
    o.sampling.temperature = 0.3;
    return o;
  }

  std::unique_ptr<Tokenizer> tokenizer_ = make_byte_tokenizer();
  std::vector<std::unique_ptr<LanguageModel>> models_;
  std::vector<std::string> shown_;
  TemporaryFolder folder_;
};

const std::vector<std::string> kPrompts = {"a", "", "a longer text than the others, beyond the window", "bc",
                                           "a"};

TEST_F(GeneratorTest, APromptsTextDoesNotDependOnTheBatchItIsIn) {
  const LanguageModel& model = make_model();
  for (const Adapt adapt : {Adapt::kPrompt, Adapt::kAll, Adapt::kOff}) {
    const std::vector<Continuation> together = run(model, kPrompts, options(40, adapt));
    for (size_t i = 0; i < kPrompts.size(); ++i)
      EXPECT_EQ(run(model, {kPrompts[i]}, options(40, adapt))[0].tokens, together[i].tokens) << kPrompts[i];
    EXPECT_EQ(together[0].tokens, together[4].tokens);
    EXPECT_NE(together[0].tokens, together[3].tokens);
  }
}

TEST_F(GeneratorTest, WhatIsLearnedFromChangesTheText) {
  const LanguageModel& model = make_model();
  const auto tokens = [&](Adapt adapt) { return run(model, {kPrompts[2]}, options(60, adapt))[0].tokens; };
  EXPECT_NE(tokens(Adapt::kPrompt), tokens(Adapt::kOff));
  EXPECT_NE(tokens(Adapt::kPrompt), tokens(Adapt::kAll));
}

TEST_F(GeneratorTest, GreedyTokensAreThoseOfTheBatchForward) {
  const LanguageModel& model = make_model();
  GenerationOptions greedy = options(12, Adapt::kAll);
  greedy.sampling.temperature = 0;
  const std::vector<int32_t> drawn = run(model, {"the beginning"}, greedy)[0].tokens;
  ASSERT_FALSE(drawn.empty());
  std::vector<int64_t> ids = {tokenizer_->document_start()};
  for (const int32_t id : tokenizer_->encode("the beginning")) ids.push_back(id);
  for (const int32_t token : drawn) {
    const Tensor input = at::tensor(ids, at::kLong).unsqueeze(0);
    Tensor label = at::zeros_like(input);
    label.narrow(1, 0, input.size(1) - 1).copy_(input.narrow(1, 1, input.size(1) - 1));
    const TokenBatch batch{input, label, at::ones(input.sizes(), at::kFloat), {}};
    const Tensor logits = model.logits(batch, Pass::kFast)[0][-1].narrow(0, 0, tokenizer_->vocab_size());
    ASSERT_EQ(logits.argmax().item<int64_t>(), token);
    ids.push_back(token);
  }
}

TEST_F(GeneratorTest, AStateOnDiskAnswersAsIfTheDocumentHadBeenReadAgain) {
  const std::string document = "Some document that is longer than the window of eight tokens. ";
  for (const int64_t window : {8, 0, 1}) {
    const LanguageModel& model = make_model(2, "slow_gradient", window);
    const uint64_t identity = identity_of(model, *tokenizer_);
    for (const Adapt adapt : {Adapt::kPrompt, Adapt::kAll, Adapt::kOff}) {
      write_state(folder_ / "state.h5", read(model, document, options(1, adapt)), identity);
      const ReadingState state = read_state(folder_ / "state.h5", identity, at::kCPU, at::kFloat);
      for (const std::string question : {"", "Q", "Another question?"}) {
        EXPECT_EQ(run(model, {question}, options(50, adapt), state)[0].tokens,
                  run(model, {document + question}, options(50, adapt))[0].tokens)
            << "window " << window << ", " << name_of(adapt) << ", '" << question << "'";
      }
      const auto both = run(model, {"Q", "R"}, options(20, adapt), state);
      EXPECT_EQ(both[1].tokens, run(model, {document + "R"}, options(20, adapt))[0].tokens);
    }
  }
}

TEST_F(GeneratorTest, AStateOfNothingIsTheDocumentsStart) {
  const LanguageModel& model = make_model();
  const uint64_t identity = identity_of(model, *tokenizer_);
  write_state(folder_ / "empty.h5", read(model, "", options(1)), identity);
  const ReadingState state = read_state(folder_ / "empty.h5", identity, at::kCPU, at::kFloat);
  EXPECT_EQ(run(model, {"x"}, options(30), state)[0].tokens, run(model, {"x"}, options(30))[0].tokens);
}

TEST_F(GeneratorTest, AnotherModelsStateAndADamagedOneAreRefused) {
  const LanguageModel &model = make_model(), &other = make_model(3);
  const uint64_t identity = identity_of(model, *tokenizer_);
  const std::string path = folder_ / "state.h5";
  write_state(path, read(model, "a document of some length", options(1)), identity);
  EXPECT_NE(identity, identity_of(other, *tokenizer_));
  EXPECT_THROW(read_state(path, identity_of(other, *tokenizer_), at::kCPU, at::kFloat), ConfigError);
  const std::string whole = read_file(path, "state");
  const std::string copy = folder_ / "damaged.h5";
  int refused = 0, tried = 0;
  const ReadingState sound = read_state(path, identity, at::kCPU, at::kFloat);
  for (size_t at = 0; at < whole.size(); at += 97) {
    std::string damaged = whole;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x10);
    std::ofstream(copy, std::ios::binary) << damaged;
    ++tried;
    // Bytes that HDF5 does not use may change; what is read must then be the very same.
    try {
      const ReadingState state = read_state(copy, identity, at::kCPU, at::kFloat);
      EXPECT_EQ(state.last_token, sound.last_token);
      EXPECT_EQ(state.state.position, sound.state.position);
      EXPECT_TRUE(at::equal(state.state.fast.dense1_bfd, sound.state.fast.dense1_bfd));
      EXPECT_TRUE(at::equal(state.state.fast.dense2_bdf, sound.state.fast.dense2_bdf));
    } catch (const DataError&) {
      ++refused;
    } catch (const ConfigError&) {
      ++refused;  // a bit of the model's hash
    }
  }
  EXPECT_GT(refused, tried / 2);
  std::ofstream(copy, std::ios::binary) << whole.substr(0, whole.size() / 2);
  EXPECT_THROW(read_state(copy, identity, at::kCPU, at::kFloat), DataError);
  EXPECT_THROW(read_state(folder_ / "none.h5", identity, at::kCPU, at::kFloat), UnavailableError);
}

TEST_F(GeneratorTest, StopStringsEndTheTextAndWhatIsShownIsTheText) {
  const LanguageModel& model = make_model();
  const std::string free = run(model, {"x"}, options(60))[0].text;
  ASSERT_GT(free.size(), 20u);
  GenerationOptions stopping = options(60);
  stopping.stops = {"no such text", free.substr(10, 3)};
  const Continuation stopped = run(model, {"x"}, stopping)[0];
  EXPECT_EQ(stopped.ending, Ending::kStopString);
  EXPECT_EQ(stopped.text, free.substr(0, free.find(stopping.stops[1])));
}

TEST_F(GeneratorTest, NoTokensNoTextAndPaddedRowsAreNeverDrawn) {
  const LanguageModel& model = make_model();
  EXPECT_TRUE(run(model, {"x", "y"}, options(0))[1].tokens.empty());
  GenerationOptions hot = options(300);
  hot.sampling.temperature = 100;
  const Continuation drawn = run(model, {"x"}, hot)[0];
  EXPECT_EQ(drawn.tokens.size(), 300u);
  for (const int32_t token : drawn.tokens) EXPECT_LT(token, tokenizer_->vocab_size());
}

// A text of three tokens and one of nine, document start included, of a model with 16 positions.
TEST_F(GeneratorTest, ATextEndsWhereThePositionsEndAndTheOthersGoOn) {
  LanguageModel& model = learned_positions(16);
  const std::vector<Continuation> texts = run(model, {"ab", "abcdefgh"}, options(30));
  for (const Continuation& text : texts) EXPECT_EQ(text.ending, Ending::kContext);
  EXPECT_EQ(texts[0].tokens.size(), 14u) << "the last token is drawn, but not read";
  EXPECT_EQ(texts[1].tokens.size(), 8u);
  EXPECT_EQ(run(model, {"ab"}, options(14))[0].ending, Ending::kMaxTokens);
  EXPECT_NO_THROW(check_prompts(model.config(), {0, 15}, 0));
  EXPECT_THROW(check_prompts(model.config(), {0, 16}, 0), ConfigError);
  EXPECT_NO_THROW(check_prompts(model.config(), {5}, 10));
  EXPECT_THROW(check_prompts(model.config(), {6}, 10), ConfigError);
  EXPECT_NO_THROW(check_prompts(make_model().config(), {1000000}, 1000000)) << "rotary positions have no end";
}

TEST_F(GeneratorTest, ATextEndsWhereTheLogitsAreNoNumbers) {
  LanguageModel& model = learned_positions(16);
  const at::NoGradGuard no_grad;
  Tensor(model.parameters()["positions"])[5].fill_(std::numeric_limits<float>::quiet_NaN());
  const std::vector<Continuation> texts = run(model, {"", "a"}, options(3, Adapt::kOff));
  EXPECT_EQ(texts[0].ending, Ending::kMaxTokens) << "it does not reach the broken position";
  EXPECT_EQ(run(model, {"abc", ""}, options(9, Adapt::kOff))[0].ending, Ending::kNotFinite);
}

TEST_F(GeneratorTest, SamplesOfOnePromptDifferAndTheFirstIsTheOneAlone) {
  const LanguageModel& model = make_model();
  GenerationOptions one = options(20);
  one.sampling.temperature = 3;  // so that draws differ
  GenerationOptions several = one;
  several.samples = 3;
  const std::vector<Continuation> texts = run(model, {"x", "x", "x"}, several);
  EXPECT_EQ(texts[0].text, run(model, {"x"}, one)[0].text);
  EXPECT_NE(texts[1].text, texts[0].text);
  EXPECT_NE(texts[2].text, texts[1].text);
}

TEST_F(GeneratorTest, WhatAModelCannotDoIsRefused) {
  const LanguageModel& control = make_model(2, "none");
  EXPECT_THROW(run(control, {"x"}, options(3, Adapt::kPrompt)), ConfigError);
  EXPECT_EQ(run(control, {"x"}, options(3, Adapt::kOff))[0].tokens.size(), 3u);
  const LanguageModel& model = make_model();
  const ReadingState without = read(model, "text", options(1, Adapt::kOff));
  EXPECT_THROW(run(model, {"x"}, options(3, Adapt::kPrompt), without), ConfigError);
  EXPECT_THROW(parse_adapt("some"), ConfigError);
}

}  // namespace
}  // namespace fwl
