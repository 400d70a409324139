//! The verbs of an installed machine: upgrade, rollback, boot-entry, status, health, and those that only units run.

use crate::cli::{BootEntry, Health, Planned, Reading, Rollback, Upgrade};
use crate::output::{self, Progress};
use crate::verbs::mesh;
use crate::verbs::operation::Stages;
use kairn_deploy::upgrade_source::{SandboxSealer, open};
use kairn_deploy::{Node, boot_entry, facts, first_boot, health, last_words, rollback, status, upgrade};
use kairn_host::efivars::EfiVars;
use kairn_host::{Effect, Machine, RealMachine, Runner, SystemClock};
use kairn_lifecycle::plan::Plan;
use kairn_lifecycle::upgrade::{UpgradeAction, UpgradeOptions};
use kairn_report::{Kind, Report, Sink};
use serde::Serialize;
use std::fmt::Display;
use std::path::Path;
use std::process::ExitCode;

/// Runs something on this machine with the doors that it needs.
pub fn with_node<T>(work: impl FnOnce(&mut Node<'_>) -> Result<T, Report>) -> Result<T, Report> {
    let mut machine = RealMachine::this();
    let clock = SystemClock;
    let mut node = Node::this(&mut machine, &clock)?;
    work(&mut node)
}

/// Prints a plan in the format that was asked for.
pub fn show_plan<P: Serialize + Display>(plan: &P, planned: Planned) -> Result<ExitCode, Report> {
    output::result(planned.output, plan)?;
    Ok(ExitCode::SUCCESS)
}

/// Reboots or powers off through the machine's door.
pub fn restart(power_off: bool) -> Result<(), Report> {
    Ok(RealMachine::this().apply(&Effect::Restart { power_off })?)
}

pub fn upgrade(verb: &Upgrade, progress: &mut Progress) -> Result<ExitCode, Report> {
    let mut source = open(&verb.source, &verb.allow_insecure_registry)?;
    let options = UpgradeOptions { recovery: verb.recovery, force: verb.force };
    if verb.planned.plan || verb.check {
        let plan = with_node(|node| Ok(upgrade::plan(node, source.as_mut(), options)?))?;
        if verb.planned.plan {
            return show_plan(&plan, verb.planned);
        }
        output::line(&format!("`{}` can be installed: {} steps", verb.source, plan.steps.len()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let plan = with_node(|node| {
        let mut stages = Stages::of_machine(&node.report)?;
        let sink = progress as &mut dyn Sink;
        Ok(upgrade::upgrade(node, source.as_mut(), &mut SandboxSealer, &mut stages, options, sink)?)
    })?;
    finished(&plan, verb.reboot)
}

pub fn rollback(verb: &Rollback, progress: &mut Progress) -> Result<ExitCode, Report> {
    if verb.planned.plan {
        let plan = with_node(|node| Ok(rollback::plan(node, None)?))?;
        return show_plan(&plan, verb.planned);
    }
    let plan = with_node(|node| {
        let mut stages = Stages::of_machine(&node.report)?;
        Ok(rollback::rollback(node, None, &mut SandboxSealer, &mut stages, progress as &mut dyn Sink)?)
    })?;
    finished(&plan, verb.reboot)
}

fn finished(plan: &Plan<UpgradeAction>, reboot: bool) -> Result<ExitCode, Report> {
    let next = if reboot { "rebooting into it" } else { "it takes effect with the next boot" };
    output::line(&format!("{} done; {next}", plan.operation))?;
    if reboot {
        restart(false)?;
    }
    Ok(ExitCode::SUCCESS)
}

pub fn boot_entry(verb: BootEntry) -> Result<ExitCode, Report> {
    match verb {
        BootEntry::List(reading) => {
            let entries = with_node(|node| Ok(boot_entry::list(node)?))?;
            output::result(reading.output, &entries)?;
        }
        BootEntry::Select { name } => {
            let entry = with_node(|node| Ok(boot_entry::select(node, &name)?))?;
            output::line(&format!("the next boot, and only that, is of {entry}"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub fn status(reading: Reading) -> Result<ExitCode, Report> {
    let mut status = status::status(Path::new("/"))?;
    status.warnings.extend(mesh::service::fault());
    output::result(reading.output, &status)?;
    Ok(ExitCode::SUCCESS)
}

/// Ends with 0 when healthy, else with 4. An acting run that handled its verdict ends with 0: its unit did its work.
pub fn health(verb: &Health, progress: &mut Progress) -> Result<ExitCode, Report> {
    let report = with_node(|node| {
        let mut pause = std::thread::sleep;
        let (acting, late) = (verb.act, verb.deadline_passed);
        Ok(health::health(node, &Runner::default(), acting, late, &mut pause, progress as &mut dyn Sink)?)
    })?;
    output::result(verb.reading.output, &report)?;
    let healthy = report.finding == kairn_lifecycle::health::Finding::Passed;
    Ok(if healthy || verb.act { ExitCode::SUCCESS } else { ExitCode::from(Kind::Environment.exit_code()) })
}

pub fn first_boot(planned: Planned, progress: &mut Progress) -> Result<ExitCode, Report> {
    let variables = EfiVars::below(Path::new("/"));
    with_node(|node| {
        if planned.plan {
            if !first_boot::is_due(node)? {
                return output::line("this machine has met its disk already");
            }
            return show_plan(&first_boot::planned(&node.report, &variables)?, planned).map(drop);
        }
        let fitted = first_boot::first_boot(node, &variables, progress as &mut dyn Sink)?;
        output::line(if fitted { "fitted to this disk" } else { "this machine has met its disk already" })
    })?;
    Ok(ExitCode::SUCCESS)
}

pub fn last_words(progress: &mut Progress) -> Result<ExitCode, Report> {
    let found = with_node(|node| Ok(last_words::collect(node, progress as &mut dyn Sink)?))?;
    let (kept, foreign) = (found.kept.len(), found.foreign.len());
    output::line(&format!("last words of {kept} boots kept, of {foreign} without a record"))?;
    Ok(ExitCode::SUCCESS)
}

/// Says what was booted, for verbs that run on media and installed machines alike.
pub fn boot_report() -> Result<kairn_lifecycle::BootReport, Report> {
    Ok(facts::boot_report(Path::new("/"))?)
}
