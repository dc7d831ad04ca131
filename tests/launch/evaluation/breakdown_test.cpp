#include "launch/evaluation/breakdown.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "core/base/error.h"

namespace fwl {
namespace {

using nlohmann::json;

json bin(int64_t low, int64_t high, int64_t tokens, double nats) {
  return {{"low", low}, {"high", high}, {"tokens", tokens}, {"nats", nats}};
}

// Document 4: 7 7 8 7; document 9: 8.
ScoredTokens two_documents() {
  return {{7, 7, 8, 7, 8}, {4, 4, 4, 4, 9}, {1, 2, 3, 4, 1}, {1.0F, 2.0F, 4.0F, 8.0F, 16.0F}};
}
std::vector<int64_t> counts() {
  return {0, 0, 0, 0, 0, 0, 0, 1000, 0};
}

TEST(Breakdown, PositionsAreBinnedByPowersOfTwo) {
  EXPECT_EQ(breakdowns(two_documents(), counts()).at("position"),
            json::array({bin(1, 1, 2, 17), bin(2, 2, 1, 2), bin(3, 4, 2, 12)}));
}

TEST(Breakdown, FrequencyInTrainingIsThatOfTheToken) {
  EXPECT_EQ(breakdowns(two_documents(), counts()).at("train_frequency"),
            json::array({bin(0, 0, 2, 20), bin(513, 1024, 3, 11)}));
}

TEST(Breakdown, OccurrencesStartAgainInEveryDocument) {
  EXPECT_EQ(breakdowns(two_documents(), counts()).at("occurrence"),
            json::array({bin(0, 0, 3, 21), bin(1, 1, 1, 2), bin(2, 2, 1, 8)}));
}

TEST(Breakdown, LengthCountsTheScoredTokensOfTheDocument) {
  EXPECT_EQ(breakdowns(two_documents(), counts()).at("document_length"),
            json::array({bin(1, 1, 1, 16), bin(3, 4, 4, 15)}));
}

TEST(Breakdown, EveryBreakdownHoldsEveryTokenOnce) {
  ScoredTokens scored;
  for (int32_t i = 0; i < 1000; ++i) {
    scored.token.push_back(i % 9);
    scored.document.push_back(i / 300);
    scored.position.push_back(i % 300 + 1);
    scored.nats.push_back(0.5F);
  }
  const json found = breakdowns(scored, counts());
  ASSERT_EQ(found.size(), 4U);
  for (const auto& [name, bins] : found.items()) {
    int64_t tokens = 0, last = -1;
    double nats = 0;
    for (const json& b : bins) {
      EXPECT_EQ(b.at("low").get<int64_t>() > last, true) << name;
      last = b.at("high");
      tokens += b.at("tokens").get<int64_t>();
      nats += b.at("nats").get<double>();
    }
    EXPECT_EQ(tokens, 1000) << name;
    EXPECT_DOUBLE_EQ(nats, 500) << name;
  }
}

TEST(Breakdown, NoTokensGiveEmptyBins) {
  EXPECT_EQ(breakdowns({}, {}).at("position"), json::array());
}

TEST(Breakdown, WhatDoesNotFitTogetherIsRefused) {
  ScoredTokens shorter = two_documents();
  shorter.nats.pop_back();
  EXPECT_THROW(breakdowns(shorter, counts()), InternalError);
  EXPECT_THROW(breakdowns(two_documents(), {1, 2}), InternalError);
  ScoredTokens torn = two_documents();
  torn.document = {4, 4, 9, 4, 9};
  EXPECT_THROW(breakdowns(torn, counts()), InternalError);
}

}  // namespace
}  // namespace fwl
