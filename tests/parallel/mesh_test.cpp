#include "parallel/mesh.h"

#include <gtest/gtest.h>

#include "core/base/error.h"

namespace fwl {
namespace {

std::string refusal(int64_t data, int64_t sequence, int ranks) {
  try {
    mesh_shape(data, sequence, ranks);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "";
}

TEST(MeshShape, MinusOneTakesWhatIsLeft) {
  EXPECT_EQ(mesh_shape(-1, 2, 8).to_string(), "4x2");
  EXPECT_EQ(mesh_shape(2, -1, 8).to_string(), "2x4");
  EXPECT_EQ(mesh_shape(-1, 1, 1).to_string(), "1x1");
  EXPECT_EQ(mesh_shape(3, 2, 6).ranks(), 6);
}

TEST(MeshShape, ImpossibleLayoutsAreRefusedWithThoseThatFit) {
  EXPECT_NE(refusal(3, 2, 8).find("1x8, 2x4, 4x2, 8x1"), std::string::npos) << refusal(3, 2, 8);
  EXPECT_NE(refusal(3, 2, 8).find("start 6 ranks"), std::string::npos);
  EXPECT_NE(refusal(-1, 3, 4).find("1x4, 2x2, 4x1"), std::string::npos);
  EXPECT_NE(refusal(-1, -1, 4), "");
  EXPECT_NE(refusal(0, 1, 1), "");
  EXPECT_NE(refusal(-2, 1, 2), "");
  EXPECT_NE(refusal(2, 2, 1), "");
}

}  // namespace
}  // namespace fwl
