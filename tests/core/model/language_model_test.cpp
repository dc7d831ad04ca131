#include "core/model/language_model.h"

#include <gtest/gtest.h>

#include <tuple>

#include "core/base/error.h"
#include "tests/support/counted_operations.h"
#include "tests/support/small_model.h"

namespace fwl {
namespace {

LanguageModel make_model(const ModelConfig& config, at::ScalarType dtype = at::kDouble) {
  return LanguageModel(config, at::kCPU, dtype, 11);
}

// Edits every token from `first` on, inputs and labels alike.
TokenBatch edit_from(const ModelConfig& config, const TokenBatch& batch, int64_t first) {
  TokenBatch edited = batch;
  edited.input_bt = batch.input_bt.clone();
  edited.label_bt = batch.label_bt.clone();
  const int64_t length = batch.input_bt.size(1);
  Tensor inputs = edited.input_bt.narrow(1, first, length - first);
  inputs.copy_((inputs + 1) % config.vocab_size);
  Tensor labels = edited.label_bt.narrow(1, first - 1, length - first + 1);  // label t is input t + 1
  labels.copy_((labels + 1) % config.vocab_size);
  return edited;
}

TEST(LanguageModel, NoLogitMovesWhenALaterTokenIsEdited) {
  for (const int64_t window : {0, 8}) {
    for (const at::ScalarType dtype : {at::kDouble, at::kFloat}) {
      ModelConfig config = small_model_config();
      config.window = window;
      const LanguageModel model = make_model(config, dtype);
      const TokenBatch batch =
          random_batch(config, 2, config.context, model.accumulation_type(), 3, {0, 9, 17});
      for (const Pass pass : {Pass::kSlow, Pass::kFast}) {
        const Tensor before = model.logits(batch, pass);
        for (int64_t t = 1; t < config.context; ++t) {
          const Tensor after = model.logits(edit_from(config, batch, t), pass);
          ASSERT_TRUE(at::equal(after.narrow(1, 0, t), before.narrow(1, 0, t)))
              << "token " << t << " moved an earlier logit, window " << window;
          ASSERT_FALSE(at::equal(after.select(1, t), before.select(1, t)))
              << "token " << t << " has no effect on its own position";
        }
      }
    }
  }
}

TEST(LanguageModel, FastWeightsReachBeyondTheAttentionWindow) {
  ModelConfig config = small_model_config();
  config.layers = 1;
  config.window = 4;
  const LanguageModel model = make_model(config);
  const TokenBatch batch = random_batch(config, 1, config.context, at::kDouble, 3);
  TokenBatch edited = batch;
  edited.input_bt = batch.input_bt.clone();
  edited.input_bt[0][0] = (batch.input_bt[0][0].item<int64_t>() + 1) % config.vocab_size;
  const int64_t far = config.context - 1;
  EXPECT_TRUE(at::equal(model.logits(batch, Pass::kSlow)[0][far], model.logits(edited, Pass::kSlow)[0][far]));
  EXPECT_FALSE(
      at::equal(model.logits(batch, Pass::kFast)[0][far], model.logits(edited, Pass::kFast)[0][far]));
}

TEST(LanguageModel, DecodingWithAMemoryEqualsTheWholeSequence) {
  for (const int64_t window : {0, 8}) {
    ModelConfig config = small_model_config();
    config.window = window;
    const LanguageModel model = make_model(config);
    const TokenBatch batch = random_batch(config, 2, config.context, at::kDouble, 3);
    const Tensor whole = model.logits(batch, Pass::kSlow);
    ContinuedSequence memory;
    std::vector<Tensor> parts;
    for (const int64_t count : {5, 1, 1, 10, 7}) {
      const Tensor next_bt = batch.input_bt.narrow(1, memory.first_position(), count);
      parts.push_back(model.logits({next_bt, {}, {}, {}}, Pass::kSlow, memory));
    }
    EXPECT_LT((at::cat(parts, 1) - whole).abs().max().item<double>(), 1e-12) << "window " << window;
  }
}

TEST(LanguageModel, TheChunkSizeDoesNotChangeTheLoss) {
  ModelConfig config = small_model_config();
  const TokenBatch batch = random_batch(config, 2, config.context, at::kDouble, 3, {0, 7});
  const Tensor expected = make_model(config).token_losses(batch, Pass::kFast);
  for (const int64_t chunk : {1, 7, 24, 100}) {
    config.fast_weight.chunk = chunk;
    EXPECT_LT((make_model(config).token_losses(batch, Pass::kFast) - expected).abs().max().item<double>(),
              1e-12)
        << "chunk " << chunk;
  }
}

TEST(LanguageModel, DecaysStartWhereTheConfigSaysAndStayBelowTheBound) {
  ModelConfig config = small_model_config();
  config.fast_weight.decay_init = 0.97;
  for (const auto& [context, bound, expected] : std::vector<std::tuple<int64_t, double, double>>{
           {200, 0, 0.995}, {10, 0, 0.985}, {10, 0.99, 0.99}, {10, 1, 1}}) {
    config.context = context;
    config.fast_weight.decay_max = bound;
    EXPECT_DOUBLE_EQ(largest_decay(config), expected);
    const LanguageModel model = make_model(config);
    ASSERT_EQ(model.decays().size(), 2u);
    for (const auto& [name, decay] : model.decays()) EXPECT_NEAR(decay, 0.97, 1e-12) << name;
    model.parameters()["fast_weight.decay"].data().fill_(-50);
    for (const auto& [name, decay] : model.decays()) EXPECT_NEAR(decay, expected, 1e-12) << name;
  }
  config.fast_weight.decay_max = 0.97;
  EXPECT_THROW(validate(config), ConfigError);
  config.fast_weight.decay_init = 1;  // not trained: nothing to bound
  EXPECT_NO_THROW(validate(config));
  EXPECT_EQ(largest_decay(config), 1);
}

// The inputs before the labels are the body's alone: their documents are none of the layer's.
TEST(LanguageModel, FewerLabelsThanInputsTakeTheDocumentsOfTheirOwnPositions) {
  const ModelConfig config = small_model_config();
  const LanguageModel model = make_model(config);
  const int64_t half = config.context / 2;
  // With a document at the first label the layer begins there, whatever stands before.
  const TokenBatch whole = random_batch(config, 2, config.context, at::kDouble, 3, {5, half, half + 3});
  TokenBatch last = whole;
  for (Tensor* t : {&last.label_bt, &last.weight_bt}) *t = t->narrow(1, half, half).contiguous();
  for (const Pass pass : {Pass::kFast, Pass::kSlow}) {
    const Tensor expected = model.token_losses(whole, pass).narrow(1, half, half);
    EXPECT_LT((model.token_losses(last, pass) - expected).abs().max().item<double>(), 1e-12);
    EXPECT_EQ(model.logits(last, pass).size(1), half);
  }
}

TEST(LanguageModel, ABatchWhosePartsDoNotFitIsRefused) {
  const ModelConfig config = small_model_config();
  const LanguageModel model = make_model(config);
  const TokenBatch good = random_batch(config, 2, config.context, at::kDouble, 3, {5});
  const auto expect_refused = [&](Tensor TokenBatch::*part, const Tensor& value, const char* name) {
    TokenBatch batch = good;
    batch.*part = value;
    EXPECT_THROW(model.token_losses(batch, Pass::kFast), InternalError) << name;
  };
  expect_refused(&TokenBatch::document_start_bt, good.document_start_bt.narrow(1, 0, 7), "documents");
  expect_refused(&TokenBatch::weight_bt, good.weight_bt.narrow(1, 0, 7), "weights");
  expect_refused(&TokenBatch::label_bt, at::cat({good.label_bt, good.label_bt}, 1), "labels");
  EXPECT_THROW(
      model.token_losses(
          {good.input_bt.narrow(0, 0, 0), good.label_bt.narrow(0, 0, 0), good.weight_bt.narrow(0, 0, 0), {}},
          Pass::kFast),
      InternalError);
}

TEST(LanguageModel, WeightsOfAForwardAreTakenOnce) {
  const ModelConfig config = small_model_config();
  const LanguageModel model = make_model(config);
  const TokenBatch batch = random_batch(config, 2, config.context, at::kDouble, 3);
  const CountedOperations counted;
  model.training_loss(batch, 1.0);
  EXPECT_EQ(counted.count("aten::softplus"), 1) << "of all decays together";
}

// 8-bit rows and means over the vocabulary are of the weights, not of a batch.
TEST(LanguageModel, AnInnerApproximationIsPreparedOnceForWeightsThatDoNotChange) {
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    const ModelConfig config = small_model_config();
    LanguageModel model = make_model(config, type);
    model.set_inner_approximation({0.05, false});
    const TokenBatch batch = random_batch(config, 2, config.context, at::kFloat, 3);
    const auto losses = [&] { return model.token_losses(batch, Pass::kFast); };
    const auto means = [&] {
      const CountedOperations counted;
      losses();
      return counted.count("aten::mean");
    };
    const int first = means(), later = means();
    EXPECT_EQ(later, first - 1) << type;
    const Tensor before = losses();
    {
      const at::NoGradGuard no_grad;
      model.parameters().values().mul_(1.5);
    }
    EXPECT_EQ(means(), first) << type << ": the weights have changed";
    const Tensor after = losses();
    EXPECT_FALSE(at::equal(after, before));
    model.set_inner_approximation({0.05, false});
    EXPECT_TRUE(at::equal(losses(), after)) << type;
    {
      const at::NoGradGuard no_grad;
      Tensor value = model.parameters()["embedding"];
      value.add_(0.01);  // by an operation on a value
    }
    EXPECT_EQ(means(), first) << type;
  }
}

TEST(LanguageModel, ThresholdsThatWantLongListsAreRefusedWithWhatFits) {
  ModelConfig config = small_model_config();
  for (const auto& [vocabulary, threshold, fits] :
       std::vector<std::tuple<int64_t, double, bool>>{{50304, 1e-5, false},
                                                      {50304, 9e-4, false},
                                                      {50304, 1e-3, true},
                                                      {50304, 0, true},
                                                      {50304, 1, true},
                                                      {1001, 1e-9, true},
                                                      {1002, 1e-9, false}}) {
    config.vocab_size = vocabulary;
    config.fast_weight.hessian_threshold = threshold;
    if (fits) {
      EXPECT_NO_THROW(validate(config)) << vocabulary << ", " << threshold;
      continue;
    }
    try {
      validate(config);
      ADD_FAILURE() << vocabulary << ", " << threshold;
    } catch (const ConfigError& error) {
      EXPECT_NE(std::string(error.what()).find("at least 0.001"), std::string::npos) << error.what();
    }
  }
}

TEST(LanguageModel, ControlHasTheSameBlockWithoutStepSizes) {
  ModelConfig config = small_model_config();
  const LanguageModel with = make_model(config);
  config.fast_weight.update = "none";
  const LanguageModel control = make_model(config);
  const TokenBatch batch = random_batch(config, 2, config.context, at::kDouble, 3);
  EXPECT_TRUE(at::equal(with.token_losses(batch, Pass::kSlow), control.token_losses(batch, Pass::kSlow)));
  EXPECT_FALSE(control.has_fast_weights());
  EXPECT_THROW(control.token_losses(batch, Pass::kFast), ConfigError);
}

// GPT-2's own form: what a control computes whose block adds nothing to what it reads.
TEST(LanguageModel, WithoutTheLayerItIsAnOrdinaryTransformer) {
  ModelConfig config = small_model_config();
  config.fast_weight.residual = true;
  config.fast_weight.update = "none";
  LanguageModel control = make_model(config);
  config.fast_weight.update = "absent";
  LanguageModel plain = make_model(config);
  const at::NoGradGuard no_grad;
  for (const char* name : {"fast_weight.dense2.weight", "fast_weight.dense2.bias"})
    Tensor(control.parameters()[name]).zero_();
  int64_t left_out = 0;
  for (const Parameter& p : control.parameters().all()) {
    if (plain.parameters().has(p.name)) {
      Tensor(plain.parameters()[p.name]).copy_(p.value);
    } else {
      left_out += p.value.numel();
    }
  }
  EXPECT_EQ(plain.parameters().count() + left_out, control.parameters().count());
  EXPECT_EQ(left_out, 2 * config.width * layer_width(control.config()) + layer_width(control.config()) +
                          3 * config.width);
  EXPECT_EQ(layer_width(config), 0);
  const TokenBatch batch = random_batch(config, 2, config.context, at::kDouble, 3);
  EXPECT_TRUE(at::equal(plain.token_losses(batch, Pass::kSlow), control.token_losses(batch, Pass::kSlow)));
  EXPECT_FALSE(plain.has_fast_weights());
  EXPECT_THROW(plain.token_losses(batch, Pass::kFast), ConfigError);
  const at::AutoGradMode grad(true);
  plain.training_loss(batch, 1.0 / 48).objective.backward();
  for (const Parameter& p : plain.parameters().all())
    EXPECT_GT(p.value.grad().abs().max().item<double>(), 0) << p.name;
}

TEST(LanguageModel, EveryParameterGetsAGradient) {
  ModelConfig config = small_model_config();
  config.fast_weight.query_gain = config.fast_weight.fast_norm = config.fast_weight.fast_biases = true;
  config.tied_embedding = false;
  config.unembedding_bias = true;
  config.feed_forward = "swiglu";
  config.norm = "layer";
  LanguageModel model = make_model(config);
  const TokenBatch batch = random_batch(config, 2, config.context, at::kDouble, 3);
  model.training_loss(batch, 1.0 / 48).objective.backward();
  for (const Parameter& p : model.parameters().all()) {
    EXPECT_GT(p.value.grad().abs().max().item<double>(), 0) << p.name;
    EXPECT_TRUE(p.value.grad().is_alias_of(model.parameters().gradients())) << p.name;
  }
}

TEST(LanguageModel, GradientOfTheWholeModelEqualsFiniteDifferences) {
  const ModelConfig config = small_model_config();
  LanguageModel model = make_model(config);
  const TokenBatch batch = random_batch(config, 2, config.context, at::kDouble, 3, {0, 9});
  model.training_loss(batch, 1.0 / 48).objective.backward();
  at::manual_seed(4);
  const Tensor direction = at::randn_like(model.parameters().values());
  const double slope = (model.parameters().gradients() * direction).sum().item<double>();
  const at::NoGradGuard no_grad;
  const double h = 1e-6;
  const auto loss_at = [&](double distance) {
    model.parameters().values().add_(direction, distance);
    const double loss = model.training_loss(batch, 1.0 / 48).objective.item<double>();
    model.parameters().values().sub_(direction, distance);
    return loss;
  };
  EXPECT_NEAR((loss_at(h) - loss_at(-h)) / (2 * h), slope, 1e-5 * std::abs(slope));
}

TEST(LanguageModel, ImpossibleShapesAreRefused) {
  ModelConfig config = small_model_config();
  config.heads = 3;
  EXPECT_THROW(validate(config), ConfigError);
  config.heads = 16;  // head width 1: rotary positions rotate pairs
  EXPECT_THROW(validate(config), ConfigError);
}

// Positions [first, first + count) of a batch as a batch of its own.
TokenBatch part_of(const TokenBatch& batch, int64_t first, int64_t count) {
  const auto cut = [&](const Tensor& t) { return t.narrow(1, first, count).contiguous(); };
  return {cut(batch.input_bt), cut(batch.label_bt), cut(batch.weight_bt), cut(batch.document_start_bt)};
}

TEST(LanguageModel, MaskedDocumentsOfAPackedWindowAreAsIfReadAlone) {
  const std::vector<int64_t> starts = {0, 7, 8, 19};
  for (const int64_t window : {0, 5}) {
    for (const std::string update : {"none", "slow_gradient"}) {
      ModelConfig config = small_model_config();
      config.window = window;
      config.document_mask = true;
      config.fast_weight.update = update;
      LanguageModel model = make_model(config);
      const TokenBatch batch = random_batch(config, 2, config.context, at::kDouble, 3, starts);
      const Pass pass = update == "none" ? Pass::kSlow : Pass::kFast;
      const Tensor packed = model.logits(batch, pass);
      model.parameters().zero_gradients();
      model.training_loss(batch, 0.1).objective.backward();
      const Tensor packed_gradient = model.parameters().gradients().clone();
      model.parameters().zero_gradients();
      for (size_t d = 0; d < starts.size(); ++d) {
        const int64_t end = d + 1 < starts.size() ? starts[d + 1] : config.context;
        const TokenBatch alone = part_of(batch, starts[d], end - starts[d]);
        const Tensor difference = model.logits(alone, pass) - packed.narrow(1, starts[d], end - starts[d]);
        EXPECT_LT(difference.abs().max().item<double>(), 1e-10) << "document " << d << ", window " << window;
        model.training_loss(alone, 0.1).objective.backward();
      }
      EXPECT_LT((model.parameters().gradients() - packed_gradient).abs().max().item<double>(), 1e-10);
      config.document_mask = false;
      const Tensor unmasked = make_model(config).logits(batch, pass);
      EXPECT_GT((unmasked - packed).abs().max().item<double>(), 1e-6) << "the mask has no effect";
    }
  }
}

TEST(LanguageModel, RefusesToMaskDocumentsOfASequenceThatGoesOn) {
  ModelConfig config = small_model_config();
  config.document_mask = true;
  const LanguageModel model = make_model(config);
  ContinuedSequence view;
  EXPECT_THROW(
      model.logits(random_batch(config, 1, config.context, at::kDouble, 3, {0, 9}), Pass::kFast, view),
      ConfigError);
  EXPECT_NO_THROW(
      model.logits(random_batch(config, 1, config.context, at::kDouble, 3, {0}), Pass::kFast, view));
}

}  // namespace
}  // namespace fwl
