//! The combinations of features that must compile.

use crate::cargo::Package;

/// The arguments that select each combination worth checking: none, the default, and each feature
/// alone. All of them at once are checked with the whole workspace.
pub fn combinations(package: &Package) -> Vec<Vec<String>> {
    let args = |args: &[&str]| args.iter().map(|&arg| arg.to_owned()).collect();
    let mut combinations = vec![args(&["--no-default-features"])];
    for feature in &package.features {
        combinations.push(if feature == "default" {
            Vec::new()
        } else {
            args(&["--no-default-features", "--features", feature])
        });
    }
    combinations
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(features: &[&str]) -> Package {
        Package {
            name: "a".to_owned(),
            manifest: "/a/Cargo.toml".into(),
            features: features.iter().map(|&feature| feature.to_owned()).collect(),
        }
    }

    #[test]
    fn a_package_without_features_is_checked_once() {
        assert_eq!(combinations(&package(&[])), [["--no-default-features"]]);
    }

    #[test]
    fn each_feature_is_checked_alone() {
        let expected: [&[&str]; 4] = [
            &["--no-default-features"],
            &[],
            &["--no-default-features", "--features", "sqlite"],
            &["--no-default-features", "--features", "testing"],
        ];
        assert_eq!(combinations(&package(&["default", "sqlite", "testing"])), expected);
    }
}
