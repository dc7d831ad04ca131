// The chunked layer against the token-by-token definition: values and every gradient, in float64.
#include "core/fast_weight/layer.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "core/fast_weight/reference.h"
#include "tests/support/layer_case.h"

namespace fwl {
namespace {

constexpr double kTolerance = 1e-9;

void expect_equals_definition(const LayerCase& c) {
  LayerSetup setup = make_layer(c);
  const NamedTensors definition = outputs_and_gradients(
      setup, fast_weight_layer_by_token(setup.weights, c.options, setup.hidden_btd, setup.tokens));
  LayerSetup again = make_layer(c);
  const NamedTensors chunked = outputs_and_gradients(
      again, fast_weight_layer(again.weights, c.options, again.hidden_btd, again.tokens, {}));
  std::string worst;
  EXPECT_LT(largest_difference(definition, chunked, &worst), kTolerance) << worst;
}

TEST(FastWeightLayer, EqualsTheDefinitionForEveryChunkSize) {
  for (const int64_t chunk : {1, 3, 4, 13, 64}) {
    SCOPED_TRACE(chunk);
    LayerCase c;
    c.options.chunk = chunk;
    expect_equals_definition(c);
  }
}

TEST(FastWeightLayer, EqualsTheDefinitionAcrossDocumentStarts) {
  for (const std::vector<int64_t>& documents : {std::vector<int64_t>{5}, {0, 4, 8}, {3, 4, 5}, {12}}) {
    LayerCase c;
    c.options.chunk = 4;
    c.documents = documents;
    expect_equals_definition(c);
  }
}

TEST(FastWeightLayer, EqualsTheDefinitionInThePublishedForm) {
  LayerCase c;
  c.options.residual = false;
  c.options.fast_norm = true;
  c.options.inner_loss_scale = 1.0 / 17;
  c.options.chunk = 5;
  c.input_norm = c.row_step_sizes = c.decay = false;
  c.unembedding_bias = true;
  expect_equals_definition(c);
}

TEST(FastWeightLayer, EqualsTheDefinitionWithFastBiasesNormAndGains) {
  LayerCase c;
  c.options.fast_biases = c.options.fast_norm = true;
  c.options.chunk = 4;
  c.query_gain = true;
  c.documents = {6};
  expect_equals_definition(c);
}

TEST(FastWeightLayer, EqualsTheDefinitionWithADecayForEveryHead) {
  for (const int64_t heads : {1, 2, 5}) {
    for (const bool everything : {false, true}) {
      LayerCase c;
      c.decay_heads = heads;
      c.options.chunk = 4;
      c.documents = {7};
      c.options.fast_biases = c.options.fast_norm = c.query_gain = everything;
      c.options.fast_layers = everything && heads == 2 ? FastLayers::kSecond : FastLayers::kBoth;
      SCOPED_TRACE(heads);
      expect_equals_definition(c);
    }
  }
}

// Nine tokens of about a ninth each: some are likely, all, or none.
TEST(FastWeightLayer, EqualsTheDefinitionWithAHessianOfLikelyTokens) {
  for (const double threshold : {1e-6, 0.1, 0.3, 1.0}) {
    for (const int64_t steps : {1, 2}) {
      for (const FastLayers layers : {FastLayers::kBoth, FastLayers::kSecond}) {
        LayerCase c;
        c.inner_steps = steps;
        c.options.hessian_threshold = threshold;
        c.options.chunk = 4;
        c.options.fast_layers = layers;
        c.options.fast_biases = c.options.fast_norm = steps == 1;
        c.unembedding_bias = c.write_gate = true;
        c.documents = {7};
        SCOPED_TRACE(threshold);
        expect_equals_definition(c);
      }
    }
  }
}

// Every combination with the options that change keys, queries, the start or what is written.
void expect_equals_definition_with(KeyNorm key_norm, bool learned_start, bool write_gate = false) {
  for (const bool everything : {false, true}) {
    for (const FastLayers layers : {FastLayers::kBoth, FastLayers::kSecond}) {
      for (const bool second_order : {true, false}) {
        LayerCase c;
        c.options.key_norm = key_norm;
        c.learned_start = learned_start;
        c.write_gate = write_gate;
        c.options.chunk = 4;
        c.options.fast_layers = layers;
        c.options.second_order = second_order;
        c.documents = {7};
        c.options.fast_biases = c.options.fast_norm = c.query_gain = everything;
        c.decay_heads = everything ? 2 : 0;
        expect_equals_definition(c);
      }
    }
  }
}

TEST(FastWeightLayer, EqualsTheDefinitionWithKeysOfOneLength) {
  expect_equals_definition_with(KeyNorm::kKeys, false);
  expect_equals_definition_with(KeyNorm::kKeysAndQueries, false);
}

TEST(FastWeightLayer, EqualsTheDefinitionWithALearnedStart) {
  expect_equals_definition_with(KeyNorm::kNone, true);
  expect_equals_definition_with(KeyNorm::kKeysAndQueries, true);
}

TEST(FastWeightLayer, EqualsTheDefinitionWithAGateOnWhatIsWritten) {
  expect_equals_definition_with(KeyNorm::kNone, false, true);
  expect_equals_definition_with(KeyNorm::kKeysAndQueries, true, true);
}

TEST(FastWeightLayer, EqualsTheDefinitionInSeveralInnerSteps) {
  for (const int64_t steps : {2, 3}) {
    for (const FastLayers layers : {FastLayers::kBoth, FastLayers::kSecond}) {
      for (const bool everything : {false, true}) {
        LayerCase c;
        c.inner_steps = steps;
        c.options.chunk = 4;
        c.options.fast_layers = layers;
        c.options.second_order = steps == 2 || !everything;
        c.options.fast_biases = c.query_gain = c.learned_start = c.write_gate = everything;
        c.options.key_norm = everything ? KeyNorm::kKeysAndQueries : KeyNorm::kNone;
        c.decay_heads = everything ? 2 : 0;
        c.documents = {7};
        SCOPED_TRACE(steps);
        expect_equals_definition(c);
      }
    }
  }
}

TEST(FastWeightLayer, EveryInnerStepMovesTheResult) {
  LayerCase c;
  c.inner_steps = 3;
  LayerSetup setup = make_layer(c);
  std::vector<Tensor> outputs;
  for (int64_t steps = 3; steps > 0; --steps) {
    outputs.push_back(
        fast_weight_layer(setup.weights, c.options, setup.hidden_btd, setup.tokens, {}).fast_normed_btd);
    if (steps > 1) setup.weights.more_steps.pop_back();
  }
  EXPECT_GT((outputs[0] - outputs[1]).abs().max().item<double>(), 1e-4);
  EXPECT_GT((outputs[1] - outputs[2]).abs().max().item<double>(), 1e-4);
}

TEST(FastWeightLayer, AStartAndAGateOfZerosChangeNoBit) {
  LayerCase c;
  LayerSetup setup = make_layer(c);
  const auto output = [&] {
    return fast_weight_layer(setup.weights, c.options, setup.hidden_btd, setup.tokens, {}).fast_normed_btd;
  };
  const Tensor without = output();
  setup.weights.start1_fd = at::zeros({c.hidden, c.width}, at::kDouble);
  setup.weights.start2_df = at::zeros({c.width, c.hidden}, at::kDouble);
  setup.weights.write_gate_d = at::zeros({c.width}, at::kDouble);
  setup.weights.write_gate_v = at::zeros({c.vocabulary}, at::kDouble);
  EXPECT_TRUE(at::equal(output(), without));
}

TEST(FastWeightLayer, AGateWithoutGradientIsTheSame) {
  for (const double threshold : {0.0, 1e-12}) {
    LayerCase c;
    c.options.fast_norm = true;
    LayerSetup setup = make_layer(c);
    setup.weights.write_gate_d = at::randn({c.width}, at::kDouble);
    setup.weights.write_gate_v = at::randn({c.vocabulary}, at::kDouble);
    const auto run = [&](const FastWeightOptions& options) {
      return fast_weight_layer(setup.weights, options, setup.hidden_btd, setup.tokens, {});
    };
    const FastWeightResult with = run(c.options);
    const at::NoGradGuard no_grad;
    c.options.inner.threshold = threshold;
    setup.weights.unembedding = approximated(setup.weights.unembedding, c.options.inner);
    const FastWeightResult without = run(c.options);
    EXPECT_LT((without.fast_normed_btd - with.fast_normed_btd).abs().max().item<double>(), 1e-9);
    EXPECT_LT((without.slow_nll_bt - with.slow_nll_bt).abs().max().item<double>(), 1e-11);
  }
}

TEST(FastWeightLayer, EqualsTheDefinitionWithTheSecondLayerFastAlone) {
  LayerCase c;
  c.options.fast_layers = FastLayers::kSecond;
  c.options.chunk = 4;
  c.documents = {7};
  expect_equals_definition(c);
}

TEST(FastWeightLayer, EqualsTheDefinitionInFirstOrder) {
  LayerCase c;
  c.options.second_order = false;
  c.options.chunk = 4;
  c.options.fast_biases = c.options.fast_norm = true;
  expect_equals_definition(c);
}

TEST(FastWeightLayer, FirstAndSecondOrderGradientsDiffer) {
  LayerCase c;
  LayerSetup setup = make_layer(c);
  const NamedTensors second = outputs_and_gradients(
      setup, fast_weight_layer(setup.weights, c.options, setup.hidden_btd, setup.tokens, {}));
  c.options.second_order = false;
  LayerSetup again = make_layer(c);
  const NamedTensors first = outputs_and_gradients(
      again, fast_weight_layer(again.weights, c.options, again.hidden_btd, again.tokens, {}));
  for (size_t i = 0; i < first.size(); ++i) {
    const bool is_gradient_of_slow_part =
        first[i].first == "d dense2" || first[i].first == "d unembedding" || first[i].first == "d hidden";
    const double difference = (first[i].second - second[i].second).abs().max().item<double>();
    if (is_gradient_of_slow_part) {
      EXPECT_GT(difference, 1e-5) << first[i].first;
    } else if (first[i].first.rfind("d ", 0) != 0) {
      EXPECT_EQ(difference, 0) << first[i].first;
    }
  }
}

TEST(FastWeightLayer, GradientEqualsFiniteDifferencesInARandomDirection) {
  LayerCase c;
  c.documents = {6};
  LayerSetup setup = make_layer(c);
  const auto loss_of = [&](LayerSetup& s) {
    const FastWeightResult r = fast_weight_layer(s.weights, c.options, s.hidden_btd, s.tokens, {});
    return outer_loss(r.fast_normed_btd.flatten(0, 1), s.weights.unembedding, s.tokens.label_bt.flatten(),
                      s.tokens.weight_bt.flatten())
        .total;
  };
  loss_of(setup).backward();
  double slope = 0;
  at::manual_seed(3);
  std::vector<Tensor> direction;
  for (auto& [name, leaf] : setup.leaves) {
    direction.push_back(at::randn_like(leaf.detach()));
    slope += (leaf.grad() * direction.back()).sum().item<double>();
  }
  const double h = 1e-6;
  const auto loss_at = [&](double distance) {
    const at::NoGradGuard no_grad;
    LayerCase same = c;
    LayerSetup moved = make_layer(same);
    for (size_t i = 0; i < direction.size(); ++i) moved.leaves[i].second.add_(direction[i], distance);
    // Step sizes were exponentiated before the move: make them again from the moved leaves.
    for (auto& [name, leaf] : moved.leaves) {
      if (name == "log_step1") moved.weights.step_size1 = leaf.exp();
      if (name == "log_step2") moved.weights.step_size2 = leaf.exp();
    }
    return loss_of(moved).item<double>();
  };
  const double measured = (loss_at(h) - loss_at(-h)) / (2 * h);
  EXPECT_NEAR(measured, slope, 1e-6 * std::abs(slope));
}

void expect_cut_continues(LayerCase c) {
  c.options.chunk = 4;
  c.options.fast_biases = true;
  c.options.fast_norm = c.inner_steps == 1;
  c.documents = {9};
  LayerSetup setup = make_layer(c);
  const FastWeightResult whole =
      fast_weight_layer(setup.weights, c.options, setup.hidden_btd, setup.tokens, {});
  for (const int64_t cut : {1, 5, 8, 9, 12}) {
    const auto part = [&](int64_t first, int64_t count, const FastWeightState& inbound) {
      const auto narrow = [&](const Tensor& t) { return t.narrow(1, first, count); };
      const LossTokens tokens{narrow(setup.tokens.label_bt), narrow(setup.tokens.weight_bt),
                              narrow(setup.tokens.document_start_bt)};
      return fast_weight_layer(setup.weights, c.options, narrow(setup.hidden_btd), tokens, inbound);
    };
    const FastWeightResult left = part(0, cut, {});
    const FastWeightResult right = part(cut, c.length - cut, left.state);
    const Tensor joined = at::cat({left.fast_normed_btd, right.fast_normed_btd}, 1);
    EXPECT_LT((joined - whole.fast_normed_btd).abs().max().item<double>(), 1e-12) << "cut at " << cut;
    EXPECT_LT((right.state.dense2_bdf - whole.state.dense2_bdf).abs().max().item<double>(), 1e-12)
        << "cut at " << cut;
    // The gradient flows back through the carried state.
    const auto gradient = [&](const Tensor& out) {
      return torch::autograd::grad({out.square().sum()}, {setup.hidden_btd}, {}, true)[0];
    };
    EXPECT_LT((gradient(joined) - gradient(whole.fast_normed_btd)).abs().max().item<double>(), 1e-11)
        << "cut at " << cut;
  }
}
TEST(FastWeightLayer, StateCarriedOverACutContinuesTheSequence) {
  for (const bool variant : {false, true}) {
    LayerCase c;
    c.decay_heads = variant ? 2 : 0;
    c.inner_steps = variant ? 2 : 1;
    c.query_gain = variant;
    c.options.key_norm = variant ? KeyNorm::kKeysAndQueries : KeyNorm::kNone;
    c.learned_start = c.write_gate = variant;
    expect_cut_continues(c);
  }
}

// Keeps what a shard sends, and gives it the states that it is told.
struct ScriptedExchange : StateExchange {
  std::vector<ShardState> sent;
  std::vector<Tensor> inbound;  // empty: zero
  void start(const std::vector<ShardState>& shards) override { sent = shards; }
  std::vector<Tensor> finish() override {
    for (size_t i = inbound.size(); i < sent.size(); ++i)
      inbound.push_back(at::zeros_like(sent[i].total_bvk));
    return inbound;
  }
};

LossTokens part_of(const LossTokens& tokens, int64_t first, int64_t count) {
  const auto part = [&](const Tensor& t) { return t.defined() ? t.narrow(1, first, count) : t; };
  return {part(tokens.label_bt), part(tokens.weight_bt), part(tokens.document_start_bt)};
}

TEST(FastWeightLayer, ShardsThatExchangeStatesEqualTheWholeWithEveryOption) {
  for (const KeyNorm key_norm : {KeyNorm::kNone, KeyNorm::kKeys, KeyNorm::kKeysAndQueries}) {
    LayerCase c;
    c.length = 12;
    c.options.chunk = 3;
    c.options.fast_biases = c.options.fast_norm = c.learned_start = c.query_gain = c.write_gate = true;
    c.options.key_norm = key_norm;
    c.decay_heads = 2;
    c.documents = {5};
    LayerSetup setup = make_layer(c);
    const auto shard = [&](int64_t r, StateExchange* exchange) {
      return fast_weight_layer(setup.weights, c.options, setup.hidden_btd.narrow(1, 4 * r, 4),
                               part_of(setup.tokens, 4 * r, 4), {}, exchange, false)
          .fast_normed_btd;
    };
    std::vector<Tensor> before, outputs;  // what lies before the shard, by fast tensor
    for (int64_t r = 0; r < 3; ++r) {
      ScriptedExchange sends, receives;
      shard(r, &sends);
      receives.inbound = before;
      outputs.push_back(shard(r, &receives));
      for (size_t i = 0; i < sends.sent.size(); ++i) {
        const ShardState& s = sends.sent[i];
        if (r == 0) before.push_back(s.total_bvk);
        if (r > 0) before[i] = s.total_bvk + s.carry_b11 * before[i];
      }
    }
    const Tensor joined = at::cat(outputs, 1),
                 whole = fast_weight_layer(setup.weights, c.options, setup.hidden_btd, setup.tokens, {})
                             .fast_normed_btd;
    EXPECT_LT((joined - whole).abs().max().item<double>(), 1e-12);
    for (const auto& [name, leaf] : setup.leaves) {
      const auto gradient = [&](const Tensor& out) {
        return torch::autograd::grad({out.square().sum()}, {leaf}, {}, true)[0];
      };
      const Tensor expected = gradient(whole);
      EXPECT_LT((gradient(joined) - expected).abs().max().item<double>(),
                1e-11 * std::max(1.0, expected.abs().max().item<double>()))
          << name;
    }
  }
}

TEST(FastWeightLayer, StepSizeZeroIsTheStaticBlock) {
  LayerCase c;
  LayerSetup setup = make_layer(c);
  setup.weights.step_size1 = at::zeros({c.hidden}, at::kDouble);
  setup.weights.step_size2 = at::zeros({c.width}, at::kDouble);
  const FastWeightResult r = fast_weight_layer(setup.weights, c.options, setup.hidden_btd, setup.tokens, {});
  EXPECT_TRUE(at::equal(r.fast_normed_btd, r.slow_normed_btd));
  EXPECT_TRUE(at::equal(r.slow_normed_btd, slow_pass(setup.weights, c.options, setup.hidden_btd)));
}

TEST(FastWeightLayer, PredictionUsesEveryEarlierLabelAndNeverItsOwn) {
  LayerCase c;
  c.zero_weights = false;
  c.options.chunk = 4;
  c.options.fast_biases = c.options.fast_norm = true;
  LayerSetup setup = make_layer(c);
  const at::NoGradGuard no_grad;
  const auto output = [&](const LossTokens& tokens) {
    return fast_weight_layer(setup.weights, c.options, setup.hidden_btd, tokens, {}).fast_normed_btd;
  };
  const Tensor before = output(setup.tokens);
  for (int64_t t = 0; t + 1 < c.length; ++t) {
    LossTokens edited = setup.tokens;
    edited.label_bt = setup.tokens.label_bt.clone();
    edited.label_bt[0][t] = (setup.tokens.label_bt[0][t].item<int64_t>() + 1) % c.vocabulary;
    const Tensor after = output(edited);
    EXPECT_TRUE(at::equal(after.narrow(1, 0, t + 1), before.narrow(1, 0, t + 1)))
        << "label " << t << " leaked backwards";
    EXPECT_FALSE(at::equal(after[0][t + 1], before[0][t + 1]))
        << "label " << t << " is not used at the next position";
    EXPECT_TRUE(at::equal(after[1], before[1])) << "label " << t << " leaked into another sequence";
  }
}

TEST(FastWeightLayer, NothingCrossesADocumentStart) {
  LayerCase c;
  c.options.chunk = 4;
  c.documents = {6};
  LayerSetup setup = make_layer(c);
  const at::NoGradGuard no_grad;
  const Tensor before =
      fast_weight_layer(setup.weights, c.options, setup.hidden_btd, setup.tokens, {}).fast_normed_btd;
  Tensor hidden = setup.hidden_btd.clone();
  hidden[0].narrow(0, 0, 6).add_(1.0);
  const Tensor after = fast_weight_layer(setup.weights, c.options, hidden, setup.tokens, {}).fast_normed_btd;
  EXPECT_TRUE(at::equal(after[0].narrow(0, 6, c.length - 6), before[0].narrow(0, 6, c.length - 6)));
}

}  // namespace
}  // namespace fwl
