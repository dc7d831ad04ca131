#include "parallel/siphash.h"

#include <gtest/gtest.h>

namespace fwl {
namespace {

// The authors' example and vectors: key 00 01 .. 0f, message 00 01 .. of each length.
TEST(SipHash, GivesTheAuthorsValues) {
  const SipKey key = {0x0706050403020100ull, 0x0f0e0d0c0b0a0908ull};
  std::array<unsigned char, 16> message{};
  for (size_t i = 0; i < message.size(); ++i) message[i] = static_cast<unsigned char>(i);
  EXPECT_EQ(siphash(key, message.data(), 0), 0x726fdb47dd0e0e31ull);
  EXPECT_EQ(siphash(key, message.data(), 1), 0x74f839c593dc67fdull);
  EXPECT_EQ(siphash(key, message.data(), 8), 0x93f5f5799a932462ull);
  EXPECT_EQ(siphash(key, message.data(), 15), 0xa129ca6149be45e5ull);
}

}  // namespace
}  // namespace fwl
