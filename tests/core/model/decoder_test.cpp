#include "core/model/decoder.h"

#include <gtest/gtest.h>

#include "core/base/error.h"
#include "tests/support/counted_operations.h"
#include "tests/support/small_model.h"

namespace fwl {
namespace {

constexpr int64_t kLength = 40;

struct Variant {
  std::string name;
  ModelConfig config;
};

Variant variant(const std::string& name, void (*change)(ModelConfig&)) {
  ModelConfig config = small_model_config();
  config.context = kLength;
  change(config);
  return {name, config};
}

void published_form(ModelConfig& c) {
  FastWeightConfig& f = c.fast_weight;
  f.residual = f.input_norm = f.document_reset = false;
  f.fast_norm = f.fast_biases = true;
  f.step_size = "scalar";
  f.step_size_space = "linear";
  f.step_size_init = 0.3;
  f.decay_init = 1;
}

// Every option of the layer, and every part of the body.
std::vector<Variant> variants() {
  return {
      variant("default", [](ModelConfig&) {}),
      variant("published form", published_form),
      variant("strong decay", [](ModelConfig& c) { c.fast_weight.decay_init = 0.8; }),
      variant("no decay", [](ModelConfig& c) { c.fast_weight.decay_init = 1; }),
      variant("a decay for every head",
              [](ModelConfig& c) {
                c.fast_weight.decay_init = 0.7;
                c.fast_weight.decay_heads = 4;
                c.fast_weight.decay_init_slowest = 0.99;
                c.fast_weight.fast_biases = c.fast_weight.fast_norm = true;
              }),
      variant("fast biases", [](ModelConfig& c) { c.fast_weight.fast_biases = true; }),
      variant("fast norm", [](ModelConfig& c) { c.fast_weight.fast_norm = true; }),
      variant("second layer only", [](ModelConfig& c) { c.fast_weight.fast_layers = "second"; }),
      variant("no document resets", [](ModelConfig& c) { c.fast_weight.document_reset = false; }),
      variant("first order", [](ModelConfig& c) { c.fast_weight.second_order = false; }),
      variant("query gains", [](ModelConfig& c) { c.fast_weight.query_gain = true; }),
      variant("keys of one length", [](ModelConfig& c) { c.fast_weight.key_norm = "l2"; }),
      variant("keys and queries of one length, biases",
              [](ModelConfig& c) {
                c.fast_weight.key_norm = "l2_both";
                c.fast_weight.fast_biases = c.fast_weight.query_gain = true;
              }),
      variant("a learned start", [](ModelConfig& c) { c.fast_weight.learned_start = true; }),
      variant("a learned start of the second layer",
              [](ModelConfig& c) {
                c.fast_weight.learned_start = true;
                c.fast_weight.fast_layers = "second";
              }),
      variant("a gate on what is written",
              [](ModelConfig& c) {
                c.fast_weight.write_gate = "both";
                c.fast_weight.inner_loss_scale = 0.7;
              }),
      variant("two inner steps", [](ModelConfig& c) { c.fast_weight.inner_steps = 2; }),
      variant("three inner steps with everything",
              [](ModelConfig& c) {
                c.fast_weight.inner_steps = 3;
                c.fast_weight.write_gate = "both";
                c.fast_weight.key_norm = "l2_both";
                c.fast_weight.fast_biases = c.fast_weight.query_gain = c.fast_weight.learned_start = true;
                c.fast_weight.decay_heads = 4;
              }),
      variant("scaled inner loss", [](ModelConfig& c) { c.fast_weight.inner_loss_scale = 0.3; }),
      variant("full attention", [](ModelConfig& c) { c.window = 0; }),
      variant("learned positions and biases",
              [](ModelConfig& c) {
                c.positions = "learned";
                c.projection_biases = c.unembedding_bias = true;
                c.norm = "layer";
                c.feed_forward = "gelu";
              }),
      variant("swiglu, untied",
              [](ModelConfig& c) {
                c.feed_forward = "swiglu";
                c.tied_embedding = false;
              }),
      variant("no blocks", [](ModelConfig& c) { c.layers = 0; }),
  };
}

// Biases, gains and starts that matter: their initial values are 0 and 1.
struct Model : LanguageModel {
  Model(const ModelConfig& config, at::ScalarType type) : LanguageModel(config, at::kCPU, type, 11) {
    at::manual_seed(5);
    const at::NoGradGuard no_grad;
    for (const Parameter& p : parameters().all())
      if (p.group == ParameterGroup::kNoDecay || p.name.rfind("fast_weight.start", 0) == 0)
        Tensor(p.value).add_(at::randn_like(p.value), 0.1);
  }
};

struct Text {
  TokenBatch batch;
  std::vector<DecoderInput> inputs(int64_t row, int64_t sequence) const {
    std::vector<DecoderInput> all;
    for (int64_t t = 0; t < batch.input_bt.size(1); ++t) {
      DecoderInput input{sequence, batch.input_bt[row][t].item<int64_t>()};
      input.learn = t == 0 || batch.weight_bt[row][t - 1].item<double>() != 0;
      input.predict = true;
      input.document_start =
          batch.document_start_bt.defined() && batch.document_start_bt[row][t].item<bool>();
      all.push_back(input);
    }
    return all;
  }
};

// Two rows; documents start inside; some tokens are not learned from.
Text text_for(const LanguageModel& model) {
  Text text{random_batch(model.config(), 2, kLength, model.accumulation_type(), 3, {0, 9, 10, 26})};
  for (const int64_t t : {3, 4, 14, 30}) text.batch.weight_bt.select(1, t).zero_();
  return text;
}

void expect_equal_to_the_batch(at::ScalarType type, double tolerance) {
  for (const Variant& v : variants()) {
    const Model model(v.config, type);
    const Text text = text_for(model);
    for (const Pass pass : {Pass::kFast, Pass::kSlow}) {
      const Tensor expected = model.logits(text.batch, pass);
      Decoder decoder(model, pass);
      const int64_t first = decoder.add_sequence(), second = decoder.add_sequence();
      std::vector<Tensor> by_token;
      for (const DecoderInput& input : text.inputs(0, first)) by_token.push_back(decoder.read({input}));
      EXPECT_LT((at::cat(by_token) - expected[0]).abs().max().item<double>(), tolerance)
          << v.name << ", token by token";
      const Tensor together = decoder.read(text.inputs(1, second));
      EXPECT_LT((together - expected[1]).abs().max().item<double>(), tolerance) << v.name << ", at once";
    }
    // The fast pass must matter, or the comparison would show nothing.
    EXPECT_GT((model.logits(text.batch, Pass::kFast) - model.logits(text.batch, Pass::kSlow))
                  .abs()
                  .max()
                  .item<double>(),
              1e-2)
        << v.name;
  }
}

TEST(Decoder, EqualsTheBatchForwardWithEveryOptionInFloat64) {
  expect_equal_to_the_batch(at::kDouble, 1e-9);
}

TEST(Decoder, EqualsTheBatchForwardWithEveryOptionInFloat32) {
  expect_equal_to_the_batch(at::kFloat, 1e-4);
}

TEST(Decoder, EqualsTheBatchForwardWithAnInnerThreshold) {
  for (const Variant& v : variants()) {
    Model model(v.config, at::kDouble);
    const Text text = text_for(model);
    const Tensor exact = model.logits(text.batch, Pass::kFast);
    // Near the probability of most tokens of an untrained model: some are kept, some are not.
    model.set_inner_approximation({1.0 / static_cast<double>(v.config.vocab_size), false});
    const Tensor expected = model.logits(text.batch, Pass::kFast);
    EXPECT_GT((expected - exact).abs().max().item<double>(), 1e-4) << v.name;
    Decoder decoder(model, Pass::kFast);
    EXPECT_LT((decoder.read(text.inputs(0, decoder.add_sequence())) - expected[0]).abs().max().item<double>(),
              1e-9)
        << v.name;
  }
}

// On a GPU every number that the host asks for is a wait for all that is queued.
TEST(Decoder, ReadingAsksForNoNumberOfATensor) {
  for (const Variant& v : variants()) {
    const Model model(v.config, at::kFloat);
    const Text text = text_for(model);
    Decoder decoder(model, Pass::kFast);
    const int64_t first = decoder.add_sequence(), second = decoder.add_sequence();
    const std::vector<DecoderInput> together = text.inputs(0, first), one_by_one = text.inputs(1, second);
    const CountedOperations counted;
    decoder.read(together);
    for (const DecoderInput& input : one_by_one) decoder.read({input});
    decoder.settle(first, 1);
    decoder.settle(second, 1, false);
    EXPECT_EQ(counted.count("aten::item"), 0) << v.name;
    EXPECT_EQ(counted.count("aten::_local_scalar_dense"), 0) << v.name;
  }
}

TEST(Decoder, RefusesInnerLogitsOfEightBits) {
  Model model(variants().front().config, at::kFloat);
  model.set_inner_approximation({0, true});
  EXPECT_THROW(Decoder(model, Pass::kFast), ConfigError);
}

TEST(Decoder, NeitherCompanyNorCutsChangeABit) {
  for (const Variant& v : variants()) {
    const Model model(v.config, at::kFloat);
    const Text text = text_for(model);
    Decoder alone(model, Pass::kFast), together(model, Pass::kFast);
    const Tensor expected = alone.read(text.inputs(0, alone.add_sequence()));
    // Two sequences mixed, in runs of changing length.
    const int64_t a = together.add_sequence(), b = together.add_sequence();
    const auto of_a = text.inputs(0, a), of_b = text.inputs(1, b);
    std::vector<Tensor> parts;
    for (size_t done_a = 0, done_b = 0, step = 1; done_a < of_a.size(); step = step % 7 + 1) {
      std::vector<DecoderInput> mixed;
      std::vector<int64_t> mine;
      for (size_t i = 0; i < step; ++i) {
        if (done_b < of_b.size()) mixed.push_back(of_b[done_b++]);
        if (done_a == of_a.size()) continue;
        mine.push_back(static_cast<int64_t>(mixed.size()));
        mixed.push_back(of_a[done_a++]);
      }
      parts.push_back(together.read(mixed).index_select(0, at::tensor(mine, at::kLong)));
    }
    EXPECT_TRUE(at::equal(at::cat(parts), expected)) << v.name;
  }
}

TEST(Decoder, ASavedStateGoesOnBitForBit) {
  for (const Variant& v : variants()) {
    const Model model(v.config, at::kFloat);
    const Text text = text_for(model);
    Decoder whole(model, Pass::kFast), first(model, Pass::kFast), second(model, Pass::kFast);
    const Tensor expected = whole.read(text.inputs(0, whole.add_sequence()));
    for (const size_t cut : {0u, 1u, 5u, 23u}) {
      const int64_t a = first.add_sequence();
      const auto inputs = text.inputs(0, a);
      const auto at = [&](size_t i) { return inputs.begin() + static_cast<int64_t>(i); };
      first.read({at(0), at(cut)});
      first.settle(a, inputs[cut].token, inputs[cut].learn);
      const int64_t b = second.add_sequence(first.state(a));
      auto rest = text.inputs(0, b);
      rest.erase(rest.begin(), rest.begin() + static_cast<int64_t>(cut));
      EXPECT_TRUE(at::equal(second.read(rest), expected.narrow(0, static_cast<int64_t>(cut),
                                                               kLength - static_cast<int64_t>(cut))))
          << v.name << ", cut at " << cut;
    }
  }
}

TEST(Decoder, TheStateIsThatOfTheBatchForward) {
  const Model model(small_model_config(), at::kDouble);
  const TokenBatch batch = random_batch(model.config(), 1, 21, at::kDouble, 3);
  ContinuedSequence view;
  model.token_losses(batch, Pass::kFast, view);
  const StreamState expected = view.stream_state();
  Decoder decoder(model, Pass::kFast);
  const int64_t sequence = decoder.add_sequence();
  decoder.read(Text{batch}.inputs(0, sequence));
  decoder.settle(sequence, batch.label_bt[0][20].item<int64_t>());
  const StreamState state = decoder.state(sequence);
  EXPECT_EQ(state.position, expected.position);
  EXPECT_TRUE(at::allclose(state.fast.dense1_bfd, expected.fast.dense1_bfd, 1e-9, 1e-12));
  EXPECT_TRUE(at::allclose(state.fast.dense2_bdf, expected.fast.dense2_bdf, 1e-9, 1e-12));
  ASSERT_EQ(state.layers.size(), expected.layers.size());
  for (size_t i = 0; i < state.layers.size(); ++i) {
    EXPECT_TRUE(at::allclose(state.layers[i].key_bhte, expected.layers[i].key_bhte, 1e-9, 1e-12));
    EXPECT_TRUE(at::allclose(state.layers[i].value_bhte, expected.layers[i].value_bhte, 1e-9, 1e-12));
  }
}

TEST(Decoder, MemoryDoesNotGrowWithASlidingWindow) {
  const Model model(small_model_config(), at::kFloat);
  Decoder decoder(model, Pass::kFast);
  const int64_t sequence = decoder.add_sequence();
  const int64_t before = decoder.memory_bytes();
  for (int64_t t = 0; t < 300; ++t) decoder.read({{sequence, t % 31}});
  EXPECT_EQ(decoder.memory_bytes(), before);
  EXPECT_EQ(decoder.position(sequence), 300);
}

TEST(Decoder, AnOrdinaryTransformerEqualsItsBatchForward) {
  ModelConfig config = small_model_config();
  config.fast_weight.update = "absent";
  const Model model(config, at::kDouble);
  const Tensor tokens = at::arange(20, at::kLong).remainder(31).unsqueeze(0);
  const Tensor expected = model.logits({tokens, {}, {}, {}}, Pass::kSlow)[0];
  Decoder decoder(model, Pass::kSlow);
  const int64_t sequence = decoder.add_sequence();
  for (int64_t t = 0; t < tokens.size(1); ++t) {
    const Tensor found = decoder.read({{sequence, tokens[0][t].item<int64_t>(), false, true}});
    EXPECT_LT((found.flatten() - expected[t]).abs().max().item<double>(), 1e-10) << t;
  }
}

TEST(Decoder, AControlHasNoFastPassAndLearnedPositionsEnd) {
  ModelConfig config = small_model_config();
  config.fast_weight.update = "none";
  const Model control(config, at::kFloat);
  EXPECT_THROW(Decoder(control, Pass::kFast), ConfigError);
  config.positions = "learned";
  const Model learned(config, at::kFloat);
  Decoder decoder(learned, Pass::kSlow);
  const std::vector<DecoderInput> too_many(static_cast<size_t>(config.context + 1),
                                           {decoder.add_sequence(), 1});
  EXPECT_THROW(decoder.read(too_many), ConfigError);
}

TEST(Decoder, AnotherModelsStateIsRefused) {
  const Model model(small_model_config(), at::kFloat);
  ModelConfig other = small_model_config();
  other.fast_weight.width = 24;
  const Model wider(other, at::kFloat);
  Decoder source(model, Pass::kFast), target(wider, Pass::kFast);
  EXPECT_THROW(target.add_sequence(source.state(source.add_sequence())), ConfigError);
}

}  // namespace
}  // namespace fwl
