#include "core/base/json.h"

#include <gtest/gtest.h>

namespace fwl {
namespace {

std::string nested(int depth, char open = '[', char close = ']') {
  return std::string(static_cast<size_t>(depth), open) + std::string(static_cast<size_t>(depth), close);
}

TEST(Json, DepthIsBoundedBeforeAnythingIsBuilt) {
  EXPECT_FALSE(parse_json(nested(kDeepestJson)).is_discarded());
  EXPECT_TRUE(parse_json(nested(kDeepestJson + 1)).is_discarded());
  EXPECT_TRUE(parse_json(nested(1 << 20)).is_discarded());
  EXPECT_TRUE(parse_json(std::string(1 << 20, '[')).is_discarded());
  EXPECT_TRUE(is_nested_too_deeply("{\"a\": " + nested(kDeepestJson) + "}"));
  // Brackets in strings are no nesting, whatever is escaped there.
  EXPECT_FALSE(is_nested_too_deeply("[\"" + std::string(1000, '[') + "\\\"[\\\\\"]"));
  EXPECT_EQ(parse_json("{\"a\": [1, \"[[\"]}").at("a").at(1), "[[");
  EXPECT_TRUE(parse_json("{").is_discarded());
}

TEST(Json, WholeNumbersAreWholeAndInRange) {
  EXPECT_EQ(whole_number(nlohmann::json(7), 0, 7), 7);
  for (const char* bad :
       {"8", "-1", "1.0", "1e300", "9223372036854775808", "null", "\"7\"", "[7]", "{}", "true"})
    EXPECT_THROW(whole_number(nlohmann::json::parse(bad), 0, 7), nlohmann::json::exception) << bad;
}

}  // namespace
}  // namespace fwl
