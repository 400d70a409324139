//! The order of the steps of a stage: by document and index, bent where a step says `after` or `before`.
//!
//! Invariants: the order is total and the same each time; a reference that names nothing, names several steps or closes a circle
//! is a diagnostic and has no effect; a step without references of its own never overtakes the one before it in its file,
//! unless a reference demands it.

use crate::{Code, Diagnostic, Document, PlannedStep, Reference, Severity};
use kairn_report::Span;

/// A step with what names it.
pub(crate) struct Candidate {
    pub step: PlannedStep,
    /// Which of the documents it is of.
    pub document: usize,
    /// Its index in the stage of its file; `None` for the steps of top-level keys.
    pub index: Option<usize>,
    /// Whether it has a name of its own.
    pub named: bool,
}

/// What must come before what, by index of candidate.
struct Edge {
    first: usize,
    then: usize,
    /// Where the reference stands.
    span: Span,
}

/// Orders the steps of one stage.
pub(crate) fn sort(
    candidates: Vec<Candidate>,
    documents: &[Document],
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<PlannedStep> {
    if candidates.iter().all(|candidate| !refers(&candidate.step)) {
        return candidates.into_iter().map(|candidate| candidate.step).collect();
    }
    let mut edges = edges(&candidates, documents, diagnostics);
    break_circles(&candidates, &mut edges, diagnostics);
    let order = walk(&candidates, &edges);
    let mut steps: Vec<Option<PlannedStep>> = candidates.into_iter().map(|candidate| Some(candidate.step)).collect();
    order.into_iter().filter_map(|index| steps.get_mut(index).and_then(Option::take)).collect()
}

fn refers(step: &PlannedStep) -> bool {
    !step.settings.after.is_empty() || !step.settings.before.is_empty()
}

fn edges(candidates: &[Candidate], documents: &[Document], diagnostics: &mut Vec<Diagnostic>) -> Vec<Edge> {
    let mut edges = Vec::new();
    for (here, candidate) in candidates.iter().enumerate() {
        let after = candidate.step.settings.after.iter().map(|reference| (reference, true));
        let before = candidate.step.settings.before.iter().map(|reference| (reference, false));
        for (reference, is_after) in after.chain(before) {
            let span = Span { source: candidate.step.span.source.clone(), place: reference.place };
            match resolve(candidates, documents, here, reference, &span) {
                Ok(there) if is_after => edges.push(Edge { first: there, then: here, span }),
                Ok(there) => edges.push(Edge { first: here, then: there, span }),
                Err(said) => diagnostics.push(*said),
            }
        }
    }
    edges
}

/// Finds the step that a reference names: by its bare name in the same file and stage, else by its full name.
fn resolve(
    candidates: &[Candidate],
    documents: &[Document],
    here: usize,
    reference: &Reference,
    span: &Span,
) -> Result<usize, Box<Diagnostic>> {
    let name = reference.name.as_str();
    let document = candidates.get(here).map(|candidate| candidate.document);
    let all = || candidates.iter().enumerate().filter(|(_, candidate)| candidate.index.is_some());
    let is_bare =
        |candidate: &Candidate| Some(candidate.document) == document && candidate.named && candidate.step.name == name;
    let mut found: Vec<usize> = all().filter(|(_, candidate)| is_bare(candidate)).map(|(index, _)| index).collect();
    if found.is_empty() {
        let is_full = |candidate: &Candidate| {
            documents.get(candidate.document).is_some_and(|document| is_full_name(name, document, candidate))
        };
        found = all().filter(|(_, candidate)| is_full(candidate)).map(|(index, _)| index).collect();
    }
    let said = |message: String| Diagnostic::new(Severity::Error, Code::BadReference, span.clone(), message);
    match found.as_slice() {
        [there] if *there == here => Err(Box::new(said(format!("`{name}` names this step itself")))),
        [there] => Ok(*there),
        [] => {
            let names =
                all().filter(|(_, candidate)| candidate.named).map(|(_, candidate)| candidate.step.name.as_str());
            let bare = name.rsplit('.').next().unwrap_or(name);
            let hint = crate::suggest::nearest(bare, names).map_or_else(
                || "it is the name of a step of this file and stage, or `<file>.<name>`".to_owned(),
                |near| format!("did you mean `{near}`?"),
            );
            Err(Box::new(said(format!("no step of this stage has the name `{name}`")).hint(hint)))
        }
        [first, second, ..] => {
            let span = |index: &usize| candidates.get(*index).map(|candidate| candidate.step.span.clone());
            let one = span(first).map(|span| span.to_string()).unwrap_or_default();
            let fault = said(format!("several steps have the name `{name}`, one at {one}"))
                .hint("a number picks one: `<file>.<name>.<index>`, counted from 0");
            Err(Box::new(match span(second) {
                Some(span) => fault.related(span, "another"),
                None => fault,
            }))
        }
    }
}

/// A full name is `<file or name of the document>.<step>[.<index>]`; a step without a name is called by its index, or by nothing and
/// its index.
fn is_full_name(name: &str, document: &Document, candidate: &Candidate) -> bool {
    let Some(index) = candidate.index.map(|index| index.to_string()) else { return false };
    let root = document.get("name").and_then(crate::Node::scalar).map(|scalar| scalar.text.as_str());
    let file = document.source.rsplit('/').next();
    let step = if candidate.named { candidate.step.name.as_str() } else { "" };
    [Some(document.source.as_str()), root, file].into_iter().flatten().any(|prefix| {
        let Some(rest) = name.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('.')) else { return false };
        let by_name = candidate.named && rest == step;
        let by_index = rest.strip_prefix(step).and_then(|rest| rest.strip_prefix('.')) == Some(index.as_str());
        by_name || by_index || (!candidate.named && rest == index)
    })
}

/// Takes edges out until no circle is left; each circle is told once, at the edge that is taken out.
fn break_circles(candidates: &[Candidate], edges: &mut Vec<Edge>, diagnostics: &mut Vec<Diagnostic>) {
    let mut kept: Vec<Edge> = Vec::new();
    for edge in std::mem::take(edges) {
        match path(&kept, edge.then, edge.first, candidates.len()) {
            None => kept.push(edge),
            Some(closing) => {
                let name = |index: usize| candidates.get(index).map_or("?", |candidate| candidate.step.name.as_str());
                let message = format!(
                    "`{}` and `{}` each wait for the other; this reference is left out",
                    name(edge.first),
                    name(edge.then)
                );
                let mut said = Diagnostic::new(Severity::Error, Code::Cycle, edge.span, message);
                if let Some(other) = kept.get(closing) {
                    said = said.related(other.span.clone(), "the circle goes on here");
                }
                diagnostics.push(said);
            }
        }
    }
    *edges = kept;
}

/// Says whether edges lead from a step to another, and by which edge one begins.
fn path(edges: &[Edge], from: usize, to: usize, count: usize) -> Option<usize> {
    let mut seen = vec![false; count];
    let mut open: Vec<(usize, Option<usize>)> = vec![(from, None)];
    while let Some((here, begun)) = open.pop() {
        if here == to {
            return begun;
        }
        match seen.get_mut(here) {
            Some(seen) if !*seen => *seen = true,
            _ => continue,
        }
        let leading = edges.iter().enumerate().filter(|(_, edge)| edge.first == here);
        open.extend(leading.map(|(index, edge)| (edge.then, begun.or(Some(index)))));
    }
    None
}

/// Takes again and again the first step for which all that it waits for is done. The step before it in its file counts as such
/// too, unless it has an `after` of its own.
fn walk(candidates: &[Candidate], edges: &[Edge]) -> Vec<usize> {
    let mut done = vec![false; candidates.len()];
    let mut order = Vec::with_capacity(candidates.len());
    let is_done = |done: &[bool], index: usize| done.get(index).copied().unwrap_or(true);
    let previous = |here: usize| {
        let candidate = candidates.get(here).filter(|candidate| candidate.step.settings.after.is_empty())?;
        let before = here.checked_sub(1)?;
        (candidates.get(before)?.document == candidate.document).then_some(before)
    };
    while order.len() < candidates.len() {
        let free = |here: &usize| {
            !is_done(&done, *here) && edges.iter().all(|edge| edge.then != *here || is_done(&done, edge.first))
        };
        let in_turn = |here: &usize| free(here) && previous(*here).is_none_or(|before| is_done(&done, before));
        let all = 0..candidates.len();
        // Where none is in turn, the first of all that are left decides: it, or the first that it waits for by references.
        let wanted = || {
            let first = all.clone().find(|here| !is_done(&done, *here))?;
            all.clone()
                .filter(free)
                .find(|here| path(edges, *here, first, candidates.len()).is_some() || *here == first)
        };
        let Some(next) = all.clone().find(in_turn).or_else(wanted) else { break };
        if let Some(done) = done.get_mut(next) {
            *done = true;
        }
        order.push(next);
    }
    order
}

#[cfg(test)]
mod tests {
    use crate::{Document, plan};
    use proptest::prelude::*;

    fn planned(files: &[&str]) -> (Vec<String>, Vec<String>) {
        let documents: Vec<Document> =
            files.iter().enumerate().map(|(i, text)| Document::parse(format!("/oem/{i}.yaml"), text)).collect();
        let plan = plan(&documents, "s");
        let names = plan.steps.iter().map(|step| step.name.clone()).collect();
        (names, plan.diagnostics.iter().map(|said| said.to_string().replace('\n', " ")).collect())
    }

    #[test]
    fn references_bend_the_order_and_nothing_else_does() {
        for (files, expected) in [
            (vec!["stages: {s: [{name: a}, {name: b, after: [{name: d}]}, {name: c}, {name: d}]}"], "a d b c"),
            (vec!["stages: {s: [{name: a}, {name: b}, {name: c, before: [a]}]}"], "c a b"),
            // The rest of a file waits for a step that waits for another file.
            (
                vec![
                    "stages: {s: [{name: x, after: [/oem/1.yaml.z]}, {name: y}]}",
                    "stages: {s: [{name: w}, {name: z}]}",
                ],
                "w z x y",
            ),
            (
                vec!["name: One\nstages: {s: [{name: a}, {name: b}]}", "stages: {s: [{name: c, before: [One.a]}]}"],
                "c a b",
            ),
            (vec!["stages: {s: [{name: a}]}", "stages: {s: [{name: b, before: ['0.yaml.a']}]}"], "b a"),
            (vec!["name: R\nstages: {s: [{name: a}, {name: a}, {name: b, before: [R.a.1]}]}"], "a b a"),
            (vec!["name: R\nstages: {s: [{}, {name: b, before: [R.0]}]}"], "b step 1"),
            (vec!["name: R\nstages: {s: [{}, {}, {name: b, before: [R..1]}]}"], "step 1 b step 2"),
        ] {
            let (names, said) = planned(&files);
            assert_eq!((names.join(" ").as_str(), said), (expected, vec![]), "{files:?}");
        }
    }

    #[test]
    fn a_reference_that_cannot_be_followed_is_pointed_at_and_has_no_effect() {
        for (text, expected) in [
            (
                "stages:\n  s:\n  - name: first\n  - name: b\n    after:\n    - name: frist\n",
                "/oem/0.yaml:6:7: error: no step of this stage has the name `frist`   hint: did you mean `first`?",
            ),
            (
                "stages:\n  s:\n  - name: a\n  - name: a\n  - name: b\n    before: [a]\n",
                "/oem/0.yaml:6:14: error: several steps have the name `a`, one at /oem/0.yaml:3:5   /oem/0.yaml:4:5: another   \
                 hint: a number picks one: `<file>.<name>.<index>`, counted from 0",
            ),
            (
                "stages:\n  s:\n  - name: a\n    after: [b]\n  - name: b\n    after: [a]\n",
                "/oem/0.yaml:6:13: error: `a` and `b` each wait for the other; this reference is left out   \
                 /oem/0.yaml:4:13: the circle goes on here",
            ),
            ("stages: {s: [{name: a, after: [a]}]}", "/oem/0.yaml:1:32: error: `a` names this step itself"),
        ] {
            let (names, said) = planned(&[text]);
            assert_eq!(said, [expected], "{text}");
            assert!(!names.is_empty());
        }
    }

    proptest! {
        #[test]
        fn whatever_steps_refer_to_every_step_comes_once_and_kept_references_hold(
            refs in prop::collection::vec((0..6_usize, prop::collection::vec(0..6_usize, 0..3), any::<bool>()), 1..6)
        ) {
            let mut text = "name: R\nstages:\n  s:\n".to_owned();
            for (index, (_, others, after)) in refs.iter().enumerate() {
                let key = if *after { "after" } else { "before" };
                let others: Vec<String> = others.iter().map(|other| format!("n{other}")).collect();
                text.push_str(&format!("  - name: n{index}\n    {key}: [{}]\n", others.join(", ")));
            }
            let plan = plan(&[Document::parse("t", &text)], "s");
            let at = |name: &str| plan.steps.iter().position(|step| step.name == name);
            prop_assert_eq!(plan.steps.len(), refs.len());
            for index in 0..refs.len() {
                let name = format!("n{index}");
                prop_assert!(at(&name).is_some());
            }
            if plan.diagnostics.is_empty() {
                for (index, (_, others, after)) in refs.iter().enumerate() {
                    for other in others {
                        let (here, there) = (at(&format!("n{index}")), at(&format!("n{other}")));
                        prop_assert_eq!(here > there, *after);
                    }
                }
            }
        }
    }
}
