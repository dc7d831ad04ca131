#include "launch/doctor/ports.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <memory>

#include "core/base/error.h"
#include "parallel/interfaces.h"

namespace fwl {
namespace {

constexpr int kAcceptPoll_ms = 50;

std::string address_text(const sockaddr_storage& address) {
  std::array<char, NI_MAXHOST> text{};
  const socklen_t size = address.ss_family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
  const auto* plain = reinterpret_cast<const sockaddr*>(&address);
  if (::getnameinfo(plain, size, text.data(), text.size(), nullptr, 0, NI_NUMERICHOST) != 0) return {};
  return text.data();
}

// A listening socket on a port that the system picks; -1 when there is none of this family.
int listen_anywhere(int family, int* port) {
  const int fd = ::socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return -1;
  sockaddr_storage any{};
  any.ss_family = static_cast<sa_family_t>(family);
  const int off = 0;  // an IPv6 socket takes IPv4 connections too
  if (family == AF_INET6) ::setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
  auto* address = reinterpret_cast<sockaddr*>(&any);
  socklen_t size = family == AF_INET6 ? sizeof(sockaddr_in6) : sizeof(sockaddr_in);
  if (::bind(fd, address, size) != 0 || ::listen(fd, 128) != 0 || ::getsockname(fd, address, &size) != 0) {
    ::close(fd);
    return -1;
  }
  // The port stands at the same place in both kinds of address.
  *port = ntohs(reinterpret_cast<const sockaddr_in*>(&any)->sin_port);
  return fd;
}

// Waits for a non-blocking connect. 0, or errno.
int finish_connect(int fd, double timeout_s) {
  pollfd waiting{fd, POLLOUT, 0};
  const int ready = ::poll(&waiting, 1, static_cast<int>(timeout_s * 1000));
  if (ready == 0) return ETIMEDOUT;
  int error = ready < 0 ? errno : 0;
  socklen_t size = sizeof error;
  if (ready > 0) ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
  return error;
}

int connect_error(const std::string& address, int port, double timeout_s) {
  addrinfo hints{}, *found = nullptr;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
  if (::getaddrinfo(address.c_str(), std::to_string(port).c_str(), &hints, &found) != 0) return EINVAL;
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owner(found, ::freeaddrinfo);
  const int fd = ::socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return errno;
  int error = 0;
  if (::connect(fd, found->ai_addr, found->ai_addrlen) != 0)
    error = errno == EINPROGRESS ? finish_connect(fd, timeout_s) : errno;
  ::close(fd);
  return error;
}

}  // namespace

std::vector<std::string> host_addresses() {
  std::vector<std::string> addresses;
  for (const sockaddr_storage& address : outside_addresses()) addresses.push_back(address_text(address));
  return addresses;
}

Listeners::Listeners(int count) {
  for (int i = 0; i < count; ++i) {
    int port = 0;
    int fd = listen_anywhere(AF_INET6, &port);
    if (fd < 0) fd = listen_anywhere(AF_INET, &port);
    if (fd < 0) break;
    sockets_.push_back(fd);
    ports_.push_back(port);
  }
  thread_ = std::thread([this] { accept_all(); });
}

Listeners::~Listeners() {
  stop_ = true;
  thread_.join();
  for (const int fd : sockets_) ::close(fd);
}

void Listeners::accept_all() const {
  std::vector<pollfd> waiting;
  for (const int fd : sockets_) waiting.push_back({fd, POLLIN, 0});
  while (!stop_) {
    if (::poll(waiting.data(), waiting.size(), kAcceptPoll_ms) <= 0) continue;
    for (const pollfd& each : waiting) {
      if (each.revents == 0) continue;
      const int fd = ::accept4(each.fd, nullptr, nullptr, SOCK_CLOEXEC);
      if (fd >= 0) ::close(fd);
    }
  }
}

std::string try_to_connect(const std::vector<std::string>& addresses, int port, double timeout_s) {
  std::string problems;
  for (const std::string& address : addresses) {
    const int error = connect_error(address, port, timeout_s);
    if (error == 0) return {};
    problems += cat(problems.empty() ? "" : "; ", address, " port ", port, ": ", std::strerror(error));
  }
  return problems.empty() ? "it has no address but loopback" : problems;
}

}  // namespace fwl
