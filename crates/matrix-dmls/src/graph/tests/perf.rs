use super::scenario::*;
use crate::graph::*;
use crate::ids::NodeId;
use std::{sync::Arc, time::Instant};

fn build(n: usize, branch_every: usize, members: usize, branch_len: usize) -> Graph {
    let names: Vec<String> = (1..members).map(|n| format!("u{n}")).collect();
    let refs: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut s = Scenario::default();
    s.commit("root", None, By::Member("u0"), &[], &refs);
    let mut g = s.graph();
    let tmpl = (**s.record("root")).clone();
    let mut at = id("root");
    let mk = |g: &mut Graph, parent: NodeId, node: NodeId, epoch: usize, who: usize| {
        let mut r = tmpl.clone();
        r.added.clear();
        r.node = node;
        r.parent = Some(parent);
        r.epoch = epoch as u64;
        let m = member(&format!("u{who}"));
        r.author = crate::record::Author { leaf: Some(who as u32), member: m.clone() };
        r.updated = Some((who as u32, m));
        g.insert(Arc::new(r), NodeStatus::Entered);
    };
    for i in 0..n {
        let node = id(&format!("n{i}"));
        mk(&mut g, at, node, i + 2, i % members);
        if i % branch_every == 0 {
            let mut b = at;
            for j in 0..branch_len {
                let x = id(&format!("b{i}-{j}"));
                mk(&mut g, b, x, i + 2 + j, (i + j) % members);
                b = x;
            }
        }
        at = node;
    }
    g
}

#[test]
#[ignore]
fn perf() {
    for (n, every, members, len) in [
        (1000, 100, 1000, 1),
        (1000, 100, 50, 20),
        (1000, 1, 1000, 1),
        (10_000, 10, 1000, 5),
        (100_000, 1000, 1000, 5),
        (50_000, 1, 1000, 1),
    ] {
        let t = Instant::now();
        let g = build(n, every, members, len);
        let b = t.elapsed();
        let t = Instant::now();
        let tip = g.choose_tip().unwrap();
        let c = t.elapsed();
        let t = Instant::now();
        g.roster_of(&tip).unwrap();
        println!(
            "n={n} every={every} members={members} len={len} nodes={}: build {b:?} choose {c:?} roster {:?}",
            g.len(),
            t.elapsed()
        );
    }
}
