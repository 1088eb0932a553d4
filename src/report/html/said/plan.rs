//! What is said before a run and while it is set up, in Chinese: the notes of plans, of the making of requests and of the
//! engine.

use super::{Template, said};

/// Every sentence, the longer one first where one begins like another.
pub const TEMPLATES: &[Template] = &[
    said("engine", "worker {} could not be pinned to core {}", "工作线程 {0} 无法绑定到核心 {1}"),
    said(
        "engine",
        "the server closes its connections after each answer without saying so: every request gets a new one",
        "服务端在每个回答后不加通知地关闭连接：每个请求使用新连接",
    ),
    said(
        "engine",
        "io_uring is not usable here ({}): receiving with epoll instead",
        "此处无法使用 io_uring（{0}）：改用 epoll 接收",
    ),
    said("engine", "{}: receiving with epoll instead", "{0}：改用 epoll 接收"),
    said(
        "plan",
        "--open-loop has no cap on requests in flight: --parallel is not used",
        "--open-loop 不限制在途请求数：--parallel 未使用",
    ),
    said(
        "plan",
        "--insecure: the server's certificate is NOT verified, anybody on the way can read and answer",
        "--insecure：未验证服务端证书，途中任何人都可读取和应答",
    ),
    said(
        "plan",
        "{} is set, and not used: requests go straight to the server (--proxy env follows it)",
        "已设置 {0} 但未使用：请求直接发往服务端（--proxy env 可使用它）",
    ),
    said(
        "plan",
        "requests go through the proxy {}: it is part of what is measured",
        "请求经过代理 {0}：它是被测对象的一部分",
    ),
    said("plan", "--proxy is not used for {}: it is reached straight", "--proxy 不用于 {0}：直接连接"),
    said(
        "plan",
        "--url does not end in an endpoint of this API; using {}: requests go to {}",
        "--url 不以此接口的端点结尾；使用 {0}：请求发往 {1}",
    ),
    said(
        "plan",
        "--witness {} adds to the load of --parallel {}: the server has up to {} requests at once",
        "--witness {0} 叠加在 --parallel {1} 的负载之上：服务端同时最多有 {2} 个请求",
    ),
    said(
        "plan",
        "{} workers share {} cores: expect receive lag; prefer fewer --workers",
        "{0} 个工作线程共用 {1} 个核心：会有接收滞后；建议减少 --workers",
    ),
    said(
        "plan",
        "--parallel {} keeps only {} of {} workers busy; the others are left out",
        "--parallel {0} 只能让 {2} 个工作线程中的 {1} 个忙碌；其余不启用",
    ),
    said("plan", "--prompt is given: the dataset is not read", "已给出 --prompt：不读取数据集"),
    said(
        "plan",
        "--api {} has no field for {}: not sent (--extra-args sends any field)",
        "--api {0} 没有 {1} 对应的字段：未发送（--extra-args 可发送任意字段）",
    ),
    said(
        "plan",
        "--stream: --api {} answers in one piece, nothing is streamed",
        "--stream：--api {0} 一次返回整个回答，没有流式输出",
    ),
    said(
        "plan",
        "--query-template has a prompt of its own and no %p: every request is the same",
        "--query-template 自带提示词且没有 %p：所有请求相同",
    ),
    said(
        "plan",
        "{} of {} random texts could not be brought to their exact length; the farthest is {} tokens off \
         (--tokenize-prompt sends exact ids)",
        "{1} 个随机文本中有 {0} 个无法达到精确长度；最多相差 {2} 个 token（--tokenize-prompt 可发送精确的 id）",
    ),
    said("plan", "calibrations are not used: {}", "未使用校准：{0}"),
    said(
        "plan",
        "the calibration in {} is not used: {}; 'ringmark rig --calibrate' makes a new one",
        "未使用 {0} 中的校准：{1}；运行 'ringmark rig --calibrate' 可重新校准",
    ),
];
