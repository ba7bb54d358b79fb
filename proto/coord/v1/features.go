package coordv1

// FeatureRecipes is the feature of version 1: sessions, and the requests and channels of stream.proto that name no
// other feature.
const FeatureRecipes = "recipes"

// Features are what a client of the native stream can need (Hello.features), and the version of the cluster since which
// there is each. What comes with a later version gets a name here, and clients that use it name it: then a cluster that
// is too old for them says so, instead of doing something else than they meant.
var Features = map[string]uint32{FeatureRecipes: 1}
