//! What a search says of its loads and why it selected them, in Chinese.

use super::{Template, said};
use crate::report::html::search::CODE;

/// Every sentence, the longer one first where one begins like another.
pub const TEMPLATES: &[Template] = &[
    said(CODE, "holds up to the upper bound", "直到上限都满足"),
    said(CODE, "too little is reached at every load that was tried", "在所有试过的负载下都未达到要求"),
    said(
        CODE,
        "at {} too little is reached, at {} other conditions fail",
        "在 {0} 处未达到要求，在 {1} 处不满足其他条件",
    ),
    said(CODE, "fails even at the lower bound, {}", "在下限 {0} 处也不满足"),
    said(
        CODE,
        "holds here, fails at {}, and holds again at {}: runs differ much",
        "此处满足，{0} 处不满足，{1} 处又满足：各次测试差别很大",
    ),
    said(CODE, "holds here, fails at {}", "此处满足，{0} 处不满足"),
    said(CODE, "the best load that was tried", "已尝试的最佳负载"),
    said(
        CODE,
        "at no load that was tried did every request succeed, with this figure",
        "没有一档已尝试的负载全部请求成功且有此指标",
    ),
    said(CODE, "not decided: the best load so far", "尚未确定：目前最佳的负载"),
    said(CODE, "not decided", "尚未确定"),
    said(
        CODE,
        "These runs do not decide the search, which goes on at {} {}: it ended early, or runs of it are missing here.",
        "这些测试不足以完成搜索，下一档为 {0} {1}：搜索提前结束，或此处缺少部分测试。",
    ),
    said(CODE, "run {} is void", "第 {0} 次测试无效"),
    said(CODE, "run {}: {} of {} requests succeeded", "第 {0} 次测试：{2} 个请求中 {1} 个成功"),
    said(
        CODE,
        "--parallel {} needs {} open files, and this process may have {}: raise 'ulimit -n', or run 'ringmark mock' in a \
         terminal of its own",
        "--parallel {0} 需要 {1} 个打开的文件，而本进程最多 {2} 个：请提高 'ulimit -n'，或在另一个终端运行 'ringmark mock'",
    ),
    said(
        CODE,
        "--parallel {} needs {} open files, and this process may have {}: raise 'ulimit -n', or lower --parallel",
        "--parallel {0} 需要 {1} 个打开的文件，而本进程最多 {2} 个：请提高 'ulimit -n'，或降低 --parallel",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::html::said::plan::tests::filled;
    use crate::report::html::said::sentence;
    use crate::report::html::said::tests::joined;
    use crate::report::language::Language;

    #[test]
    fn every_reason_has_its_sentence_and_every_sentence_its_reason() {
        let search = joined(include_str!("../../../search.rs"));
        let code = search.split("#[cfg(test)]").next().unwrap_or_default();
        let code: String = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        let reasons: Vec<&str> = code.split('"').skip(1).step_by(2).filter(|literal| literal.contains(' ')).collect();
        assert!(reasons.len() >= 8, "{reasons:?}");
        for reason in reasons {
            let en = filled(reason);
            assert_ne!(sentence(CODE, &en, Language::Zh), en, "no Chinese text for this reason");
        }
        let run = [include_str!("../../../run/error.rs"), include_str!("../../../run/mod.rs")].concat();
        let said = [search, joined(include_str!("../../search.rs")), joined(&run)];
        for template in TEMPLATES {
            // Where the variable is named, a hint follows, or both.
            let pieces = template.en.split("{}").flat_map(|piece| piece.split("-n'")).map(str::trim);
            for piece in pieces.filter(|piece| piece.len() > 3) {
                assert!(said.iter().any(|text| text.contains(piece)), "'{piece}' is not said");
            }
        }
    }
}
